package growth

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/homeward-dr/homeward/bench/meter"
)

// own measures what this process uses from now on, where what is measured runs in it.
type own struct {
	before float64
	meter  *meter.Meter
}

func startOwn() (*own, error) {
	debug.FreeOSMemory()
	before, err := resident()
	m, e := meter.New(os.Getpid())
	return &own{before: before, meter: m}, errors.Join(err, e)
}

// end tells processor seconds, and by how many bytes the largest resident set
// was above what the process had at the beginning.
func (o *own) end() (cpu, peak float64, err error) {
	used, err := o.meter.End()
	return used.CPU, max(0, float64(used.Peak)-o.before), err
}

// resident is this process's resident set in bytes.
func resident() (float64, error) {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), "VmRSS:")
	var kib float64
	_, err = fmt.Sscan(rest, &kib)
	return kib * 1024, err
}
