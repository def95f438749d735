// Command bench measures Homeward beside what its users would pick instead, in turns
// on this machine, and prints what it found; `-docs docs` makes docs/benchmarks.md
// of it, with plots. See bench/DESIGN.md, and `make bench`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/mover"
	"github.com/homeward-dr/homeward/bench/peer"
	"github.com/homeward-dr/homeward/bench/report"
)

// options are the command's flags.
type options struct {
	full    bool
	only    string
	rounds  int
	seed    uint64
	dir     string
	memory  string
	binary  string
	docs    string
	show    string
	into    string
	install bool
	list    bool
}

func (o *options) flags(fs *flag.FlagSet) {
	fs.BoolVar(&o.full, "full", false, "all settings; else the quick mode, under five minutes")
	fs.StringVar(&o.only, "only", "", "chapters, separated by commas; empty: all of the mode")
	fs.IntVar(&o.rounds, "rounds", 5, "runs of each contender in a setting")
	fs.Uint64Var(&o.seed, "seed", 0, "of all that is random; 0: a new one, which is printed")
	fs.StringVar(&o.dir, "dir", "", "directory for images, with 80 GB free for the full mode; empty: a temporary one")
	fs.StringVar(&o.memory, "memory", "/dev/shm", "directory in memory, for images of up to 2 GiB")
	fs.StringVar(&o.binary, "binary", "bin/homeward", "the homeward binary")
	fs.StringVar(&o.docs, "docs", "", "write benchmarks.md, plots and results.json into this directory")
	fs.StringVar(&o.show, "show", "", "measure nothing: show this results.json again")
	fs.StringVar(&o.into, "into", "", "take the figures that are not measured now from this results.json")
	fs.BoolVar(&o.install, "install", false, "install missing peers (Debian packages, by name)")
	fs.BoolVar(&o.list, "list", false, "list the chapters")
}

func main() {
	mover.Main() // this program is also the two processes that only move bytes
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		}
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	o.flags(fs)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", fs.Arg(0))
	}
	if o.list {
		return list(out)
	}
	if o.show != "" {
		r, err := report.Read(o.show)
		if err != nil {
			return err
		}
		return show(o, r, out)
	}
	picked, err := pick(o)
	if err != nil {
		return err
	}
	r, err := measureAll(ctx, o, picked, progress)
	if err != nil {
		return err
	}
	stopped := ctx.Err() // what was measured until then is told all the same
	if o.into != "" {
		old, err := report.Read(o.into)
		if err != nil {
			return err
		}
		r = join(old, r)
	}
	return errors.Join(show(o, r, out), stopped)
}

func list(out io.Writer) error {
	for _, c := range chapters() {
		mode := "full"
		if c.Quick {
			mode = "quick, full"
		}
		if _, err := fmt.Fprintf(out, "%-10s %-12s %s\n", c.Name, mode, c.What); err != nil {
			return err
		}
	}
	return nil
}

func show(o options, r measure.Result, out io.Writer) error {
	if o.docs != "" {
		return report.Write(o.docs, r)
	}
	return report.Print(out, r)
}

// pick chooses the chapters.
func pick(o options) (picked []measure.Chapter, err error) {
	var names []string
	if o.only != "" {
		names = strings.Split(o.only, ",")
	}
	for _, c := range chapters() {
		switch {
		case slices.Contains(names, c.Name):
			names = slices.DeleteFunc(names, func(n string) bool { return n == c.Name })
			picked = append(picked, c)
		case o.only == "" && (o.full || c.Quick):
			picked = append(picked, c)
		}
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("no chapter %q (-list names them)", strings.Join(names, ","))
	}
	if o.rounds < 1 {
		return nil, fmt.Errorf("-rounds %d: give at least 1", o.rounds)
	}
	return picked, nil
}

// measureAll takes the figures. One that fails says so in the result; the others
// are taken all the same.
func measureAll(ctx context.Context, o options, picked []measure.Chapter, progress io.Writer) (measure.Result, error) {
	began := time.Now()
	b := &measure.Bench{Full: o.full, Rounds: o.rounds, Seed: o.seed, Say: func(format string, args ...any) {
		_, _ = fmt.Fprintf(progress, "%7.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}}
	if b.Seed == 0 {
		b.Seed = rand.Uint64N(1 << 32)
	}
	b.Say("seed %d", b.Seed)
	var err error
	if b.Binary, err = filepath.Abs(o.binary); err != nil {
		return measure.Result{}, err
	}
	if _, err := os.Stat(b.Binary); err != nil {
		return measure.Result{}, fmt.Errorf("%w: build it (make build), or name it with -binary", err)
	}
	if b.Dir, err = os.MkdirTemp(o.dir, "homeward-bench-"); err != nil {
		return measure.Result{}, err
	}
	defer func() { _ = os.RemoveAll(b.Dir) }()
	if b.Memory, err = os.MkdirTemp(o.memory, "homeward-bench-"); err != nil {
		return measure.Result{}, err
	}
	defer func() { _ = os.RemoveAll(b.Memory) }()
	r := measure.Result{Began: began, Full: o.full, Rounds: o.rounds, Seed: b.Seed, Machine: machine(b), Tools: map[string]string{}}
	for _, c := range picked {
		for _, tool := range c.Needs {
			r.Tools[tool.Program] = peer.Find(ctx, tool, o.install).String()
		}
	}
	for _, c := range picked {
		if ctx.Err() != nil {
			break
		}
		b.Say("%s: %s", c.Name, c.What)
		start := time.Now()
		f, err := c.Measure(ctx, b)
		f.Name, f.Began, f.Took, f.Full = c.Name, start, time.Since(start).Seconds(), o.full
		if err != nil {
			f.Error = err.Error()
			if ctx.Err() != nil {
				f.Error = interrupted
			}
			b.Say("%s: not finished: %v", c.Name, err)
		}
		r.Figures = append(r.Figures, f)
	}
	r.Took = time.Since(began).Seconds()
	return r, nil
}

// interrupted is said of a figure that somebody had no time for.
const interrupted = "it was interrupted: settings of its mode that are in no table were not measured."

// join puts newer figures into an older result. What is told of the machine is the
// newer's; each figure keeps when and how it was taken.
func join(old, r measure.Result) measure.Result {
	r.Took = 0
	var all []measure.Figure
	for _, c := range chapters() {
		for _, from := range [][]measure.Figure{r.Figures, old.Figures} {
			if i := slices.IndexFunc(from, func(f measure.Figure) bool { return f.Name == c.Name }); i >= 0 {
				all = append(all, from[i])
				r.Took += from[i].Took
				break
			}
		}
	}
	r.Figures = all
	for name, version := range old.Tools {
		if _, newer := r.Tools[name]; !newer {
			r.Tools[name] = version
		}
	}
	return r
}
