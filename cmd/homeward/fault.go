package main

import (
	"os"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/homeward-dr/homeward"
)

// faultVariable names a fault point, and optionally the pass of it that counts:
// HOMEWARD_FAULT=applied:3, HOMEWARD_FAULT='fs.sync *.undo:2' (a pattern as of a
// shell). There the process kills itself, as kill -9 would: tests use it to crash
// a role at each step of its work.
const faultVariable = "HOMEWARD_FAULT"

// faultHook is to be called at every fault point that is passed; nil when none is
// set.
func faultHook(value string) (func(point string), error) {
	if value == "" {
		return nil, nil
	}
	pattern, count, counted := strings.Cut(value, ":")
	left, err := int64(1), error(nil)
	if counted {
		left, err = strconv.ParseInt(count, 10, 64)
	}
	if _, bad := path.Match(pattern, ""); err != nil || left < 1 || bad != nil {
		return nil, homeward.Errorf("read environment", homeward.Invalid, faultVariable,
			"give a point, or point:pass with a pass of 1 or more", "%q", value)
	}
	var passes atomic.Int64
	return func(point string) {
		if hit, _ := path.Match(pattern, point); hit && passes.Add(1) == left { // the pattern was checked above
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it arrives
		}
	}, nil
}
