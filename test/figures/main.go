// Command figures measures the whole system on this machine and prints what it
// finds: how old the newest point gets, how much memory the roles take, and what a
// reprotect costs. It asserts nothing; the tests do. Run it with
//
//	go run ./test/figures [-run rpo,memory,points,reprotect]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

// figure is one thing to measure.
type figure struct {
	name string
	what string
	do   func(context.Context, *bench) error
}

func figures() []figure {
	return []figure{
		{"rpo", "age of the newest point while the guest writes", rpo},
		{"memory", "memory of the roles during the initial sync of 2 GiB", memory},
		{"points", "memory of the roles with 1,000 points", points},
	}
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	only := flag.String("run", "", "comma-separated names; empty: all")
	flag.Parse()
	dir, err := os.MkdirTemp("", "homeward-figures-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary := filepath.Join(dir, "homeward")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/homeward")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build homeward (run this in the checkout): %w", err)
	}
	l := &bench{binary: binary, out: os.Stdout}
	for _, f := range figures() {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), f.name) {
			continue
		}
		l.say("%s: %s\n", f.name, f.what)
		if err := f.do(ctx, l); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}
