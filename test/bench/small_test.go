// Package bench runs chapters of the benchmarks in small, so that they still work on
// the day when somebody wants to know. What they find is not looked at.
package bench

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/mover"
)

// binary is the homeward program that is measured.
var binary string

func TestMain(m *testing.M) {
	mover.Main() // this program is also the two processes that only move bytes
	code, err := run(m)
	if err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "homeward-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) // a left-over temporary file
	binary = filepath.Join(dir, "homeward")
	build := exec.Command("go", "build", "-o", binary, "../../cmd/homeward")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("build homeward: %w", err)
	}
	return m.Run(), nil
}

// small is the least of everything.
func small(t *testing.T) *measure.Bench {
	t.Helper()
	return &measure.Bench{Smoke: true, Rounds: 1, Seed: 1, Dir: short(t, ""), Memory: short(t, "/dev/shm"), Binary: binary, Say: t.Logf}
}

// short is a directory of a short name, for sockets are made below it.
func short(t *testing.T, in string) string {
	t.Helper()
	dir, err := os.MkdirTemp(in, "hwb-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
