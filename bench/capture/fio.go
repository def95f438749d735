package capture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/meter"
)

// workload is what is asked of a disk.
type workload struct {
	rw    string // fio's name of the pattern
	size  string // of a request
	depth int    // requests in flight
}

// pattern is a workload without its depth: "4k randwrite".
func (w workload) pattern() string { return w.size + " " + w.rw }

func (w workload) String() string { return fmt.Sprintf("%s, depth %d", w.pattern(), w.depth) }

func (w workload) labels(part, place string) []measure.Label {
	return []measure.Label{{Name: "part", Value: part}, {Name: "image", Value: place}, {Name: "pattern", Value: w.pattern()},
		{Name: "queue depth", Value: fmt.Sprint(w.depth)}}
}

// target is what fio opens.
type target struct {
	uri  string // of NBD; or
	file string // a file
	pids []int  // whose processor time the requests cost, besides fio's
	here bool   // this process is whose
}

// args name the target, and the engine for it.
func (t target) args() []string {
	if t.file != "" {
		return []string{"--ioengine=io_uring", "--filename=" + t.file}
	}
	return []string{"--ioengine=nbd", "--uri=" + t.uri}
}

// direction is the part of fio's JSON that tells of reads, or of writes.
type direction struct {
	IOPS    float64 `json:"iops"`
	N       float64 `json:"total_ios"`
	Bytes   float64 `json:"io_bytes"`
	Latency struct {
		Percentile map[string]float64 `json:"percentile"` // nanoseconds
	} `json:"clat_ns"`
}

// report is the part of fio's JSON that is looked at.
type report struct {
	Jobs []struct {
		Error       int
		Read, Write direction
		Runtime     float64 `json:"job_runtime"` // in milliseconds
		User        float64 `json:"usr_cpu"`     // in percent of it
		System      float64 `json:"sys_cpu"`
	}
}

// fio runs a workload for so long on the first size bytes of the target. Settle, if
// any, returns when everything that the run has caused is done: the servers'
// processor time is counted until then.
func fio(ctx context.Context, t target, w workload, size int64, length time.Duration, seed uint64, settle func() error) (measure.Values, error) {
	args := append(t.args(), "--name=bench", "--rw="+w.rw, "--bs="+w.size, fmt.Sprintf("--iodepth=%d", w.depth),
		fmt.Sprintf("--size=%d", size), "--time_based", fmt.Sprintf("--runtime=%dms", length.Milliseconds()),
		fmt.Sprintf("--randseed=%d", seed), "--norandommap", "--output-format=json", "--percentile_list=50:99:99.9")
	used, err := t.meter()
	if err != nil {
		return nil, err
	}
	r, err := run(ctx, args)
	if err == nil && settle != nil {
		err = settle()
	}
	server, e := used()
	if err = errors.Join(err, e); err != nil {
		return nil, err
	}
	v := measure.Values{}
	j := r.Jobs[0]
	for _, d := range []direction{j.Read, j.Write} {
		if d.N == 0 {
			continue
		}
		v["iops"], v["bytes_per_second"] = d.IOPS, d.IOPS*d.Bytes/d.N
		for name, percentile := range map[string]string{"latency_p50": "50.000000", "latency_p99": "99.000000", "latency_p999": "99.900000"} {
			if ns, ok := d.Latency.Percentile[percentile]; ok {
				v[name] = ns / 1e9
			}
		}
		v["client_cpu"] = (j.User + j.System) / 100 * j.Runtime / 1e3 / d.N
		if len(t.pids) > 0 || t.here {
			v["server_cpu"] = server / d.N
		}
	}
	if v["iops"] == 0 {
		return nil, errors.New("fio completed no request")
	}
	return v, nil
}

// meter begins to count the servers' processor time, in seconds; what it returns ends that.
func (t target) meter() (func() (float64, error), error) {
	m, err := meter.New(t.pids...)
	if err != nil {
		return nil, err
	}
	before, err := ownTime()
	return func() (float64, error) {
		used, err := m.End()
		if !t.here || err != nil {
			return used.CPU, err
		}
		after, err := ownTime()
		return used.CPU + after - before, err
	}, err
}

// ownTime is what this process has used, without its children: fio is one.
func ownTime() (float64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("own processor time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds(), nil
}

// run runs fio and reads what it found.
func run(ctx context.Context, args []string) (r report, err error) {
	cmd := exec.CommandContext(ctx, "fio", args...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return r, fmt.Errorf("fio %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(complaints.String()))
	}
	text := out.Bytes() // a notice may stand before the JSON
	if i := bytes.IndexByte(text, '{'); i >= 0 {
		text = text[i:]
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("what fio says: %w in %q", err, text)
	}
	if len(r.Jobs) != 1 || r.Jobs[0].Error != 0 {
		return r, fmt.Errorf("fio: %s", text)
	}
	return r, nil
}

// verify writes checksummed blocks all over the first size bytes, reads them back
// and compares: a server that is fast and wrong is found before it is measured.
func verify(ctx context.Context, t target, size int64, seed uint64) error {
	_, err := run(ctx, append(t.args(), "--name=verify", "--rw=randwrite", "--bsrange=4k-64k", "--iodepth=16", fmt.Sprintf("--size=%d", size),
		fmt.Sprintf("--randseed=%d", seed), "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--verify_state_save=0", "--output-format=json"))
	return err
}
