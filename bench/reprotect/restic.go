package reprotect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/homeward-dr/homeward/bench/measure"
)

// restic backs up into a repository at the target, which rclone serves over HTTP,
// and restores there: a repository is no disk yet. The repository has a snapshot of
// the disk from before the change.
func (p *pair) restic(ctx context.Context, c change) (_ measure.Values, err error) {
	dir := filepath.Join(p.r.dir, "restic")
	secret := filepath.Join(dir, "password")
	repository := filepath.Join(dir, "repository")
	tool := func(args ...string) []string {
		return append([]string{"--quiet", "--password-file", secret, "--cache-dir", filepath.Join(dir, "cache")}, args...)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := write(secret, "bench"); err != nil {
		return nil, err
	}
	for _, step := range [][]string{{"init"}, {"backup", p.source}} {
		if err := command(ctx, "restic", tool(append([]string{"-r", repository}, step...)...)...); err != nil {
			return nil, err
		}
	}
	if err := p.change(ctx, c); err != nil {
		return nil, err
	}
	address := p.r.Address(home)
	v, err := p.r.take(ctx, pids{}, away, home, func(x *attempt) error {
		return x.serve(ctx, x.target, address, "rclone", "serve", "restic", "--addr", address, repository)
	}, func(x *attempt) error {
		if err := x.source.run(ctx, "restic", tool("-r", "rest:http://"+address+"/", "backup", p.source)...); err != nil {
			return err
		}
		if err := x.target.run(ctx, "restic", tool("-r", repository, "restore", "latest", "--target", filepath.Join(dir, "out"))...); err != nil {
			return err
		}
		return settle(filepath.Join(dir, "out", p.source))
	})
	if err != nil {
		return nil, err
	}
	if err := os.Rename(filepath.Join(dir, "out", p.source), p.target); err != nil { //nolint:forbidigo // images of a benchmark, which nobody counts on
		return nil, err
	}
	return p.finish(ctx, v, nil, c)
}

// need says why a program cannot be had; empty: it can.
func need(programs ...string) string {
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Sprintf("%s is not installed (-install fetches it)", program)
		}
	}
	return ""
}
