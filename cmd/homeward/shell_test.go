package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// shell runs the homeward command in a directory of its own.
type shell struct {
	t   *testing.T
	dir string
	env []string
}

func newShell(t *testing.T) *shell { return &shell{t: t, dir: t.TempDir()} }

func (s *shell) path(name string) string { return filepath.Join(s.dir, name) }

func (s *shell) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Dir = s.dir
	// A race-enabled binary otherwise waits a second at its end.
	cmd.Env = append(append(os.Environ(), asCommand+"=1", "GORACE=atexit_sleep_ms=0"), s.env...)
	return cmd
}

// result is what a command left behind.
type result struct {
	t           *testing.T
	line        string
	code        int
	out, errOut string
}

// run runs "homeward <line>"; words are separated by blanks.
func (s *shell) run(line string) result {
	s.t.Helper()
	var out, errOut bytes.Buffer
	cmd := s.command(strings.Fields(line)...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return result{s.t, line, cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// wants checks exit code, and words on standard output.
func (r result) wants(code int, words ...string) result {
	r.t.Helper()
	if r.code != code {
		r.t.Fatalf("homeward %s: ended with %d, want %d\n%s%s", r.line, r.code, code, r.out, r.errOut)
	}
	for _, w := range words {
		if !strings.Contains(r.out, w) {
			r.t.Errorf("homeward %s: output lacks %q:\n%s", r.line, w, r.out)
		}
	}
	return r
}

// says checks words on standard error.
func (r result) says(words ...string) result {
	r.t.Helper()
	for _, w := range words {
		if !strings.Contains(r.errOut, w) {
			r.t.Errorf("homeward %s: standard error lacks %q:\n%s", r.line, w, r.errOut)
		}
	}
	return r
}

// process is a role that runs.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.Closer
	ready ready
	done  chan struct{} // closed when it has ended
	log   *bytes.Buffer // of standard error; read it after done
}

// start runs "homeward --json <line>" and waits for its ready line. The process
// is killed with the test.
func (s *shell) start(line string) *process {
	s.t.Helper()
	var r ready
	p := s.launchInto(line, &r)
	if p.ready = r; !r.Ready {
		<-p.done
		s.t.Fatalf("homeward %s: ended before it was ready:\n%s", line, p.log)
	}
	return p
}

// launchInto starts "homeward --json <line>" and reads the first document it
// prints into first, which stays zero when the process ends before that.
func (s *shell) launchInto(line string, first any) *process {
	s.t.Helper()
	p := &process{t: s.t, cmd: s.command(strings.Fields("--json " + line)...), done: make(chan struct{}), log: new(bytes.Buffer)}
	p.cmd.Stderr = p.log
	in, err := p.cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	p.in = in
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	var begun sync.WaitGroup
	begun.Add(1)
	go func() {
		defer close(p.done)
		_ = json.NewDecoder(out).Decode(first) // an early end leaves it zero
		begun.Done()
		_, _ = io.Copy(io.Discard, out)
		_ = p.cmd.Wait() // its code is in ProcessState
	}()
	begun.Wait()
	s.t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// wait waits for the end and returns the exit code; -1: by a signal.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(30 * time.Second):
		p.t.Fatal("the process does not end")
		return 0
	}
}
