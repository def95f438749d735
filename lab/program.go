package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/homeward-dr/homeward"
)

// Program is a role's process. It is told to end when its standard input does
// (--with-parent), so nothing outlives its starter even if that is killed.
type Program struct {
	Name    string
	Args    []string
	LogFile string
	// Executable is run instead of the installation's; empty: that one.
	Executable string
	// Env is added to the environment of the next start.
	Env    []string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	ended  chan struct{}
	listen string
}

// Listen is the address it said it listens on.
func (p *Program) Listen() string { return p.listen }

// Flag is the value it was given for a flag; empty: none.
func (p *Program) Flag(name string) string {
	for i, a := range p.Args {
		if a == name && i+1 < len(p.Args) {
			return p.Args[i+1]
		}
	}
	return ""
}

// Start runs the program and waits until it says that it is ready.
func (p *Program) Start(ctx context.Context, executable string) error {
	logFile, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return homeward.Errorf("start "+p.Name, homeward.IO, p.LogFile, "make the directory writable", "%w", err)
	}
	defer func() { _ = logFile.Close() }() // the child has its own copy
	if p.Executable != "" {
		executable = p.Executable
	}
	p.cmd = exec.Command(executable, p.Args...)
	p.cmd.Stderr = logFile
	p.cmd.Env = append(os.Environ(), p.Env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt is for the demo, which then ends its roles in order
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return homeward.Errorf("start "+p.Name, homeward.IO, executable, "see that the binary can be run", "%w", err)
	}
	ready := make(chan string, 1)
	p.ended = make(chan struct{})
	go p.watch(out, ready, p.ended)
	select {
	case addr, ok := <-ready:
		if !ok {
			return homeward.Errorf("start "+p.Name, homeward.Unavailable, p.Name, "read "+p.LogFile, "it ended before it was ready: %s", Tail(p.LogFile))
		}
		p.listen = addr
		return nil
	case <-time.After(20 * time.Second):
		p.Kill()
		return homeward.Errorf("start "+p.Name, homeward.Timeout, p.Name, "read "+p.LogFile, "not ready after 20 s")
	case <-ctx.Done():
		p.Kill()
		return ctx.Err()
	}
}

// watch reads what the program prints and reaps it. It ends with the program.
func (p *Program) watch(out io.Reader, ready chan<- string, ended chan<- struct{}) {
	defer close(ended)
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		var line struct {
			Ready  bool   `json:"ready"`
			Listen string `json:"listen"`
		}
		if json.Unmarshal(sc.Bytes(), &line) == nil && line.Ready {
			ready <- line.Listen
		}
	}
	close(ready)
	_ = p.cmd.Wait() // how it ended is in its log
}

// Kill ends it the way a lost site ends: at once.
func (p *Program) Kill() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// Ended is closed when the process that was started last has ended.
func (p *Program) Ended() <-chan struct{} { return p.ended }

// PID is that of the process that was started last.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Dir is what the role keeps.
func (p *Program) Dir() string { return p.Flag("--dir") }

// Log is what it wrote, over all its starts.
func (p *Program) Log() (string, error) {
	raw, err := os.ReadFile(p.LogFile)
	return string(raw), err
}

// Stop ends it in order.
func (p *Program) Stop() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		p.Kill()
	}
}

// Tail is the end of a log.
func Tail(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-600):])
}
