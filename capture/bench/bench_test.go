// Package bench measures the path of a guest's requests, the NBD server with
// capture on, against nbdkit, with fio as the client of both, on the same image, in
// turns.
//
//	go test ./capture/bench -run '^$' -bench . -benchtime 1x [-rounds 5] [-seconds 0.4] [-subject cutting] [-image /dev/shm]
//
// Each benchmark prints the median IOPS of both and their ratio, and the processor
// time that server and fio spent on a request, by the kernel's account: that one
// says most where the machine is busy. Ours is at least nbdkit's when the ratio is
// 1 or more.
package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

var (
	rounds  = flag.Int("rounds", 5, "measurements of each server")
	seconds = flag.Float64("seconds", 0.4, "length of a measurement")
	image   = flag.String("image", "", "directory for the image; empty: a temporary one")
	what    = flag.String("subject", "captured", "bare: the server alone; captured: with capture; cutting: and a cut each second")
)

const imageSize = 1 << 30

// fioReport is the part of fio's JSON that is looked at.
type fioReport struct {
	Jobs []struct {
		Read, Write struct {
			IOPS float64 `json:"iops"`
			N    float64 `json:"total_ios"`
		}
		Runtime float64 `json:"job_runtime"` // in milliseconds
		User    float64 `json:"usr_cpu"`     // in percent of it
		System  float64 `json:"sys_cpu"`
	}
}

func BenchmarkAgainstNbdkit(b *testing.B) {
	dir := *image
	if dir == "" {
		dir = b.TempDir()
	}
	path := fill(b, dir)
	ours, theirs := serveOurs(b, path), serveNbdkit(b, path)
	for _, size := range []string{"4k", "64k", "1m"} {
		for _, rw := range []string{"randread", "randwrite", "read", "write"} {
			for _, depth := range []int{1, 16, 32} {
				b.Run(fmt.Sprintf("%s/%s/qd%d", size, rw, depth), func(b *testing.B) {
					alternate(b, ours, theirs, func(s subject) sample { return fio(b, s, size, rw, depth) })
				})
			}
		}
	}
}

// subject is a server to be measured.
type subject struct {
	uri string
	pid int
}

// sample is one measurement: requests in a second, and the processor time of
// server and client for one request, in microseconds.
type sample struct{ iops, server, client float64 }

// alternate measures both in turns, so that what else the machine does hits both
// alike, and reports the medians, and those of the ratios of neighbours.
func alternate(b *testing.B, ours, theirs subject, measure func(subject) sample) {
	var us, them []sample
	for i := range *rounds {
		if i%2 == 0 {
			us = append(us, measure(ours))
		}
		them = append(them, measure(theirs))
		if i%2 == 1 {
			us = append(us, measure(ours))
		}
	}
	report := func(name string, of func(i int) float64) {
		v := make([]float64, *rounds)
		for i := range v {
			v[i] = of(i)
		}
		slices.Sort(v)
		b.ReportMetric(v[len(v)/2], name)
	}
	report("ratio", func(i int) float64 { return us[i].iops / them[i].iops })
	report("ours-iops", func(i int) float64 { return us[i].iops })
	report("nbdkit-iops", func(i int) float64 { return them[i].iops })
	report("ours-us", func(i int) float64 { return us[i].server })
	report("nbdkit-us", func(i int) float64 { return them[i].server })
	report("ours-fio-us", func(i int) float64 { return us[i].client })
	report("nbdkit-fio-us", func(i int) float64 { return them[i].client })
	b.ReportMetric(0, "ns/op")
}

// cpu is the processor time a process has used, its ended threads included, in
// microseconds.
func cpu(b *testing.B, pid int) float64 {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// The fields behind the name, which may hold anything but ends with the last ')'.
	fields := strings.Fields(string(line[strings.LastIndexByte(string(line), ')')+1:]))
	var user, system float64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		b.Fatal(err)
	}
	return (user + system) * 1e4 // the kernel counts in hundredths of a second
}

func fio(b *testing.B, s subject, size, rw string, depth int) sample {
	before := cpu(b, s.pid)
	cmd := exec.Command("fio", "--name=x", "--ioengine=nbd", "--uri="+s.uri, "--rw="+rw, "--bs="+size,
		fmt.Sprintf("--iodepth=%d", depth), "--size=1g", "--time_based", fmt.Sprintf("--runtime=%dms", int(*seconds*1000)),
		"--norandommap", "--randrepeat=1", "--output-format=json")
	out, err := cmd.Output()
	used := cpu(b, s.pid) - before
	if err != nil {
		b.Fatalf("fio: %v\n%s (missing: apt-get install fio)", err, out)
	}
	var r fioReport
	if err := json.Unmarshal(out[strings.IndexByte(string(out), '{'):], &r); err != nil {
		b.Fatalf("%v in %s", err, out)
	}
	j := r.Jobs[0]
	n := j.Read.N + j.Write.N
	return sample{j.Read.IOPS + j.Write.IOPS, used / n, (j.User + j.System) * 10 * j.Runtime / n}
}
