package network

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
)

// Site is one namespace. Its methods may be called concurrently; what they do, one
// does after the other.
type Site struct {
	Name    string
	Address string // on the data link

	namespace string
	work      chan func() // done by a thread that is in the namespace for good
	thread    sync.WaitGroup
	mu        sync.Mutex
	port      int // that was given out last
}

// enter starts the site's thread.
func (s *Site) enter() error {
	ns, err := os.Open(filepath.Join(netns, s.namespace))
	if err != nil {
		return homeward.Errorf("enter namespace", homeward.IO, s.namespace, "run it again", "%w", err)
	}
	defer func() { _ = ns.Close() }() // it was only read
	s.work = make(chan func())
	entered := make(chan error, 1)
	s.thread.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		entered <- err
		if err != nil {
			return
		}
		for do := range s.work {
			do()
		}
	})
	if err := <-entered; err != nil {
		return homeward.Errorf("enter namespace", homeward.Unsupported, s.namespace, "run it as root", "%w", err)
	}
	return nil
}

func (s *Site) leave() {
	if s.work != nil {
		close(s.work)
		s.thread.Wait()
	}
}

// Do runs something in the site's network: sockets that it opens and processes that
// it starts are there, and stay there. What it starts as goroutines is not.
func (s *Site) Do(do func() error) error {
	done := make(chan error, 1)
	s.work <- func() { done <- do() }
	return <-done
}

// Start starts a program in the site's network. It is killed when this process ends.
func (s *Site) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return s.Do(cmd.Start)
}

// Free is an address ("host:port") of the site on the data link that nobody was
// given before: the namespace is nobody else's.
func (s *Site) Free() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	const first = 20_000 // below the ports of outgoing connections
	s.port++
	return fmt.Sprintf("%s:%d", s.Address, first+s.port%12_000)
}

// Listen listens at an address of the site.
func (s *Site) Listen(address string) (ln net.Listener, err error) {
	err = s.Do(func() (err error) {
		ln, err = net.Listen("tcp", address)
		return err
	})
	return ln, err
}

// Knock tells whether somebody takes connections: at a TCP address as the site sees
// it, or at the unix socket that a path names.
func (s *Site) Knock(ctx context.Context, address string) error {
	if filepath.IsAbs(address) {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", address)
		if err != nil {
			return err
		}
		return c.Close()
	}
	c, err := s.Dial(ctx, address)
	if err != nil {
		return err
	}
	return c.Close()
}

// Dial connects from the site to an address.
func (s *Site) Dial(ctx context.Context, address string) (c net.Conn, err error) {
	err = s.Do(func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return err
	})
	return c, err
}
