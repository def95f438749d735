// Package bench measures the NBD server against nbdkit, with fio as the client
// of both, on the same image, in turns.
//
//	go test ./nbd/bench -run '^$' -bench . [-rounds 3] [-seconds 2] [-cases 4k]
//
// Each benchmark prints the median IOPS of both and their ratio; ours is at least
// nbdkit's when the ratio is 1 or more.
package bench

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/nbd"
)

var (
	rounds  = flag.Int("rounds", 3, "measurements of each server")
	seconds = flag.Float64("seconds", 1, "length of a measurement")
	image   = flag.String("image", "", "directory for the image; empty: a temporary one")
)

const imageSize = 1 << 30

// fioReport is the part of fio's JSON that is looked at.
type fioReport struct {
	Jobs []struct {
		Read, Write struct {
			IOPS float64 `json:"iops"`
			N    int64   `json:"total_ios"`
		}
	}
}

func BenchmarkAgainstNbdkit(b *testing.B) {
	dir := *image
	if dir == "" {
		dir = b.TempDir()
	}
	path := fill(b, dir)
	ours := subject{serveOurs(b, path), os.Getpid()}
	theirs := serveNbdkit(b, path)
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

// sample is one measurement: requests in a second, and processor time of the
// server for one request, which says more than the first where the machine is busy.
type sample struct{ iops, micros float64 }

// alternate measures both in turns, so that what else the machine does hits both
// alike, and reports the medians, and those of the ratios of neighbours.
func alternate(b *testing.B, ours, theirs subject, measure func(subject) sample) {
	var us, them, ratios, usCPU, themCPU []float64
	for i := range *rounds {
		var u, t sample
		if i%2 == 0 {
			u, t = measure(ours), measure(theirs)
		} else {
			t, u = measure(theirs), measure(ours)
		}
		us, them, ratios = append(us, u.iops), append(them, t.iops), append(ratios, u.iops/t.iops)
		usCPU, themCPU = append(usCPU, u.micros), append(themCPU, t.micros)
	}
	b.ReportMetric(median(us), "ours-iops")
	b.ReportMetric(median(them), "nbdkit-iops")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(median(usCPU), "ours-cpu-us")
	b.ReportMetric(median(themCPU), "nbdkit-cpu-us")
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

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// fill makes an image without holes.
func fill(b *testing.B, dir string) string {
	path := filepath.Join(dir, "image.raw")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 1<<20)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	for range imageSize / len(p) {
		if _, err := f.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.Remove(path); err != nil {
			b.Error(err)
		}
	})
	return path
}

func serveOurs(b *testing.B, path string) string {
	// nbdkit opens the same image: no lock.
	d, err := block.OpenFile(b.Context(), "file:"+path, block.Mode{NoLock: true})
	if err != nil {
		b.Fatal(err)
	}
	s := nbd.NewServer(nbd.ServerOptions{})
	if err := s.Add(nbd.Export{Name: "d", Disk: d, MultiConn: true}); err != nil {
		b.Fatal(err)
	}
	socket := filepath.Join(b.TempDir(), "ours")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	b.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			b.Error(err)
		}
		if err := <-done; err != nil {
			b.Error(err)
		}
		if err := d.Close(); err != nil {
			b.Error(err)
		}
	})
	return nbd.UnixURI(socket, "d").String()
}

func serveNbdkit(b *testing.B, path string) subject {
	socket := filepath.Join(b.TempDir(), "nbdkit")
	cmd := exec.Command("nbdkit", "-f", "-U", socket, "file", path)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatalf("nbdkit is missing: apt-get install nbdkit (%v)", err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
			return subject{nbd.UnixURI(socket, "").String(), cmd.Process.Pid}
		}
		select {
		case <-b.Context().Done():
			b.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
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
	return sample{j.Read.IOPS + j.Write.IOPS, used / float64(j.Read.N+j.Write.N)}
}
