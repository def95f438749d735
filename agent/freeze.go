package agent

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

const (
	hookTimeout  = 10 * time.Second // when Hook.Timeout is zero
	thawInterval = 10 * time.Second // between attempts to thaw what would not
)

// freezer brackets an application-consistent cut. A durable note stands while
// the guest may be frozen, so that a restart thaws it. One caller at a time.
type freezer struct {
	hook homeward.Hook
	fs   durable.FS
	note string // path
	runs bool   // commands may be run

	mu     sync.Mutex
	frozen bool // the note stands
	tried  time.Time
}

// openFreezer finds whether an earlier process left the guest frozen.
func openFreezer(fsys durable.FS, note string, hook homeward.Hook, runs bool) (*freezer, error) {
	f := &freezer{hook: hook, fs: fsys, note: note, runs: runs}
	switch _, err := durable.ReadFile(fsys, note); {
	case err == nil:
		f.frozen = true
	case homeward.KindOf(err) != homeward.NotFound:
		return nil, err
	}
	return f, nil
}

// set changes the hook.
func (f *freezer) set(hook homeward.Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

func (f *freezer) timeout() time.Duration {
	if f.hook.Timeout > 0 {
		return f.hook.Timeout
	}
	return hookTimeout
}

// freeze stops the guest's file systems. After an error too the guest may be
// frozen: call thaw.
func (f *freezer) freeze(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hook.IsZero() {
		return homeward.Errorf("freeze guest", homeward.Invalid, "policy freeze",
			"set freeze and thaw commands, or the guest agent's socket, in the policy", "no hook is set")
	}
	if err := f.permitted("freeze guest"); err != nil {
		return err
	}
	if err := durable.WriteFile(f.fs, f.note, []byte("the guest may be frozen\n"), 0o600); err != nil {
		return homeward.Wrap(err, "freeze guest", "")
	}
	f.frozen = true
	ctx, cancel := context.WithTimeout(ctx, f.timeout())
	defer cancel()
	if f.hook.GuestAgent != "" {
		return askGuest(ctx, f.hook.GuestAgent, func(g *guestAgent) error { return g.freeze(ctx) })
	}
	return runHook(ctx, "freeze guest", f.hook.FreezeCommand)
}

// permitted refuses commands where none may run: a policy is changed far from here.
func (f *freezer) permitted(op string) error {
	if f.runs || f.hook.GuestAgent != "" {
		return nil
	}
	return homeward.Errorf(op, homeward.Forbidden, "policy freeze",
		"start the agent with --allow-commands if whoever may change policies may run commands as this agent, or name the guest agent's socket in the policy",
		"this agent runs no commands that a policy names")
}

// still reports whether the guest is frozen now: after a cut this makes the mark
// true. A command cannot be asked; its freeze holds until its thaw.
func (f *freezer) still(ctx context.Context) error {
	if f.hook.GuestAgent == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout())
	defer cancel()
	return askGuest(ctx, f.hook.GuestAgent, func(g *guestAgent) error { return g.still(ctx) })
}

// thaw lets the guest run again and removes the note. It is not given up with
// ctx: a guest must not stay frozen because a caller went away.
func (f *freezer) thaw(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.thawLocked(ctx)
}

func (f *freezer) thawLocked(ctx context.Context) error {
	if !f.frozen {
		return nil
	}
	f.tried = time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.timeout())
	defer cancel()
	err := f.permitted("thaw guest")
	if err != nil {
		return err
	}
	if f.hook.GuestAgent != "" {
		err = askGuest(ctx, f.hook.GuestAgent, func(g *guestAgent) error { return g.thaw(ctx) })
	} else if len(f.hook.ThawCommand) > 0 {
		err = runHook(ctx, "thaw guest", f.hook.ThawCommand)
	}
	if err == nil {
		err = durable.Remove(f.fs, f.note)
	}
	f.frozen = err != nil
	return err
}

// rethaw tries again, once in a while, to thaw a guest that would not.
func (f *freezer) rethaw(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.tried) < thawInterval {
		return nil
	}
	return f.thawLocked(ctx)
}

// runHook runs a command with everything it starts, and ends all of that at the
// deadline.
func runHook(ctx context.Context, op string, command []string) error {
	if len(command) == 0 {
		return homeward.Errorf(op, homeward.Invalid, "policy freeze", "set both commands in the policy", "no command is set")
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return homeward.Errorf(op, homeward.Timeout, command[0], // its arguments may be secret, and many read this
			"make the command faster, or raise the hook's timeout", "%w", ctx.Err())
	case err != nil:
		return homeward.Errorf(op, homeward.Unavailable, command[0], // its arguments may be secret, and many read this
			"run the command by hand and see why it fails", "%w: %s", err, out.String())
	}
	return nil
}

// tail keeps the last KiB written to it.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	t.Buffer.Write(p)
	if extra := t.Len() - 1024; extra > 0 {
		t.Next(extra)
	}
	return n, nil
}

func (t *tail) String() string { return strings.TrimSpace(t.Buffer.String()) }
