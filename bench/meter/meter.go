// Package meter tells what processes used: processor time, peak memory, bytes read.
//
// A Meter is for one side of what is measured. It takes processes that run already
// (Watch) and those that it starts (Run, Start); children of both count, ended ones
// too. Work that the kernel does in threads of its own (loop devices, write-back,
// receiving packets) is in nobody's account, for no contender.
package meter

import (
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
)

// Used is what the processes of a meter used while it ran.
type Used struct {
	CPU     float64 // seconds, user and system
	Peak    int64   // bytes: the sum of each process's largest resident set
	Read    int64   // bytes that read calls returned: of files, cached or not, and of pipes
	Fetched int64   // bytes fetched from storage
}

// sampling is how often the largest resident sets of processes that may end are
// looked at: what they grow in their last instant is missed.
const sampling = 10 * time.Millisecond

// Meter is of one side. Its methods may be called concurrently.
type Meter struct {
	mu      sync.Mutex
	watched map[int]account // pid: as it stood when it was first seen
	started map[int]bool    // pids of programs that run
	ended   Used            // of programs that ended
	peaks   map[int]int64   // pid: largest resident set seen
	stop    chan struct{}
	looking sync.WaitGroup
}

// New begins with processes that run already: from now on they count.
func New(pids ...int) (*Meter, error) {
	m := &Meter{watched: map[int]account{}, started: map[int]bool{}, peaks: map[int]int64{}, stop: make(chan struct{})}
	for _, pid := range pids {
		if err := forgetPeak(pid); err != nil {
			return nil, err
		}
		a, err := read(pid)
		if err != nil {
			return nil, err
		}
		m.watched[pid] = a
	}
	m.looking.Go(m.look)
	return m, nil
}

// look keeps the peaks of processes and their descendants.
func (m *Meter) look() {
	tick := time.NewTicker(sampling)
	defer tick.Stop()
	for {
		m.sample()
		select {
		case <-tick.C:
		case <-m.stop:
			return
		}
	}
}

func (m *Meter) sample() {
	m.mu.Lock()
	defer m.mu.Unlock()
	roots := map[int]bool{}
	for pid := range m.started {
		roots[pid] = true
	}
	for _, pid := range family(roots) { // a watched process lives on: its own mark is read at the end
		m.peaks[pid] = max(m.peaks[pid], peak(pid))
	}
}

// Started takes a program that was just started by this process.
func (m *Meter) Started(cmd *exec.Cmd) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.started[cmd.Process.Pid] = true
}

// Wait waits until such a program has ended, and adds what it used. The error is
// the program's.
func (m *Meter) Wait(cmd *exec.Cmd) error {
	pid := cmd.Process.Pid
	left, err := lastAccount(pid)
	waited := cmd.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.started, pid)
	if err != nil {
		return errors.Join(err, waited)
	}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok { // its children that were waited for included
		m.ended.CPU += seconds(ru.Utime) + seconds(ru.Stime)
	}
	m.ended.Read += left.read
	m.ended.Fetched += left.fetched
	return waited
}

// Stop ends a program that does not end by itself, and adds what it used.
func (m *Meter) Stop(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(err, m.Wait(cmd))
	}
	err := m.Wait(cmd)
	var exit *exec.ExitError
	if errors.As(err, &exit) { // it was told to
		return nil
	}
	return err
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }

// End stops counting. Programs that were started have to be waited for before.
func (m *Meter) End() (u Used, err error) {
	close(m.stop)
	m.looking.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for pid := range m.started {
		return u, homeward.Errorf("meter", homeward.InUse, fmt.Sprintf("process %d", pid), "wait for it first", "it was started and runs")
	}
	u = m.ended
	for pid, before := range m.watched {
		now, err := read(pid)
		if err != nil {
			return u, err
		}
		u.CPU += now.cpu - before.cpu
		u.Read += now.read - before.read
		u.Fetched += now.fetched - before.fetched
		u.Peak += peak(pid)
	}
	for _, p := range m.peaks {
		u.Peak += p
	}
	return u, nil
}

// lastAccount waits until a child has ended, and reads its account before it is
// waited for and gone.
func lastAccount(pid int) (account, error) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return account{}, homeward.Errorf("meter", homeward.Internal, fmt.Sprintf("process %d", pid), "report this", "wait: %w", err)
		}
		return read(pid)
	}
}
