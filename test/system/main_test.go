package system

import (
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// binary is the homeward program under test, root the checkout.
var binary, root string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	wd, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	root = filepath.Join(wd, "..", "..")
	dir, err := os.MkdirTemp("", "homeward-system-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) // a left-over temporary file
	binary = filepath.Join(dir, "homeward")
	build := exec.Command("go", "build", "-o", binary, "./cmd/homeward")
	build.Dir, build.Stderr = root, os.Stderr
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("build homeward: %w", err)
	}
	return m.Run(), nil
}

// random is the source of a randomised test; its seed is printed.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("HOMEWARD_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("HOMEWARD_SEED: %v", err)
		}
	}
	t.Logf("HOMEWARD_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// rounds is how often a random story is played: once, or a twentieth of
// HOMEWARD_CASES, for a round of processes takes as long as many in memory.
func rounds(t *testing.T) int {
	t.Helper()
	s := os.Getenv("HOMEWARD_CASES")
	if s == "" {
		return 1
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("HOMEWARD_CASES: give a number of 1 or more, not %q", s)
	}
	return (n + 19) / 20
}

// need fails the test where a tool is missing.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is needed and not installed: run hack/deps.sh", tool)
		}
	}
}
