package local

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/homeward-dr/homeward"
)

// process names a running process for good: a pid may be used again, a pid with
// its start time is not.
type process struct {
	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"` // clock ticks since boot, /proc/PID/stat field 22
}

func processOf(pid int) process { return process{PID: pid, Start: startOf(pid)} }

// startOf is 0 for a process that is gone. A child that has ended is reaped.
func startOf(pid int) uint64 {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	end := bytes.LastIndexByte(raw, ')') // the name before it may hold anything
	if err != nil || end < 0 {
		return 0
	}
	f := bytes.Fields(raw[end+1:])
	if len(f) < 20 || f[0][0] == 'X' {
		return 0
	}
	if f[0][0] == 'Z' {
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // not our child: somebody else reaps it
		return 0
	}
	n, err := strconv.ParseUint(string(f[19]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (p process) alive() bool { return p.PID != 0 && p.Start != 0 && startOf(p.PID) == p.Start }

func (p process) kill() error {
	if !p.alive() {
		return nil
	}
	return syscall.Kill(p.PID, syscall.SIGKILL)
}

func (p process) terminate() error {
	if !p.alive() {
		return nil
	}
	return syscall.Kill(p.PID, syscall.SIGTERM)
}

// wait returns when the process is gone. It may be another process's child, so
// it is watched rather than waited for.
func (p process) wait(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for p.alive() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// starter starts processes from one thread that lives as long as the site: the
// kernel ends a tied child when the thread that started it ends, not the process.
type starter struct {
	jobs chan func()
	done sync.WaitGroup
}

func newStarter() *starter {
	s := &starter{jobs: make(chan func())}
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for job := range s.jobs {
			job()
		}
	}()
	return s
}

func (s *starter) close() {
	close(s.jobs)
	s.done.Wait()
}

// start runs a command in a session of its own, with its output in a file.
func (s *Site) start(name string, args []string, console string) (process, error) {
	fail := func(err error) (process, error) {
		return process{}, homeward.Errorf("start machine", homeward.IO, name, "see that the program is installed and "+console+" is writable", "%w", err)
	}
	out, err := os.OpenFile(console, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = out.Close() }() // the child has its own copy
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.tie == nil {
		err = cmd.Start()
	} else {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
		started := make(chan error, 1)
		s.tie.jobs <- func() { started <- cmd.Start() }
		err = <-started
	}
	if err != nil {
		return fail(err)
	}
	p := processOf(cmd.Process.Pid)
	// Its end is seen, and reaped, by startOf; how it ended is on the console.
	return p, cmd.Process.Release()
}
