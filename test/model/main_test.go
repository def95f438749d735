// Package model walks two whole sites through failover, cancel, reprotect, failback
// and crashes in random order, and holds every state against what the guests really
// wrote: the property of DESIGN and the law I-0. See package world.
package model

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
