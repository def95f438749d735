package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/stage"
)

// bench makes the stages of one figure.
type bench struct {
	binary string
	out    io.Writer
}

// say prints a line; there is nobody to tell that it could not be.
func (l *bench) say(format string, args ...any) { _, _ = fmt.Fprintf(l.out, format, args...) }

// build makes two sites and prepares the machine; prepare may change its disks
// before it is protected.
func (l *bench) build(ctx context.Context, o stage.Options, p homeward.Policy, prepare func(*stage.Stage) error) (*stage.Stage, error) {
	o.Executable, o.Guest = l.binary, "builtin"
	st, err := stage.Build(ctx, o)
	if err != nil {
		return nil, err
	}
	err = st.Install(ctx)
	if err == nil && prepare != nil {
		err = prepare(st)
	}
	if err == nil {
		st.Item = recovery.New(st.Machine(), p, st.Home.Side, st.Away.Side, slog.New(slog.DiscardHandler))
		err = st.Item.Protect(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, st.Logs())
		st.Close()
		return nil, err
	}
	return st, nil
}

func id(st *stage.Stage) homeward.ItemRequest { return homeward.ItemRequest{Item: st.Item.ID()} }

// fill writes random bytes all over the machine's first disk.
func fill(st *stage.Stage) error {
	f, err := os.OpenFile(strings.TrimPrefix(st.Home.Side.Disks[0], "file:"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	size := st.Machine().Disks[0].Size
	chunk, rng := make([]byte, 1<<20), rand.NewChaCha8([32]byte{1})
	for at := int64(0); at < size && err == nil; at += int64(len(chunk)) {
		_, _ = rng.Read(chunk) // never fails
		_, err = f.WriteAt(chunk, at)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// peak is a role's largest resident set, in MiB.
func peak(p *lab.Program) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kib int
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				return fmt.Sprintf("%d MiB", kib>>10)
			}
		}
	}
	return "unknown"
}

// peaks prints those of the roles on the way.
func (l *bench) peaks(st *stage.Stage) {
	for _, p := range []*lab.Program{st.Home.Agent, st.Home.Process, st.Away.Target} {
		l.say("  %-12s %s\n", p.Name, peak(p))
	}
}
