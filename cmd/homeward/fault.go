package main

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/homeward-dr/homeward"
)

// faultVariable names a fault point, and optionally the pass of it that counts:
// HOMEWARD_FAULT=undo-durable:3. There the process kills itself, as kill -9 would:
// tests use it to crash a role at each step of its work.
const faultVariable = "HOMEWARD_FAULT"

// faultHook is told every fault point that is passed; nil when none is set.
func faultHook(value string) (func(point string), error) {
	if value == "" {
		return nil, nil
	}
	name, count, counted := strings.Cut(value, ":")
	left := int64(1)
	if counted {
		var err error
		if left, err = strconv.ParseInt(count, 10, 64); err != nil || left < 1 {
			return nil, homeward.Errorf("read environment", homeward.Invalid, faultVariable,
				"give the name of a point, or name:pass with a pass of 1 or more", "%q", value)
		}
	}
	var passes atomic.Int64
	return func(point string) {
		if point == name && passes.Add(1) == left {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it arrives
		}
	}, nil
}
