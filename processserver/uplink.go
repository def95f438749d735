package processserver

import (
	"context"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
)

const (
	uplinkSlots = 8       // sends at once to one target
	sampleMin   = 1 << 20 // bytes of a send that tell a link's speed
	fastLink    = 300e6   // bytes a second from which compressing costs more than it saves
	slowLink    = 50e6    // below, zstd; up to fastLink, s2
)

// uplink is the way to one target, shared by its items. Safe for concurrent use.
type uplink struct {
	url    string
	sink   homeward.Sink
	slots  *semaphore.Weighted
	bucket bucket

	mu      sync.Mutex
	speed   float64 // bytes a second, smoothed; 0: not known yet
	failing bool
}

func newUplink(url string, sink homeward.Sink) *uplink {
	return &uplink{url: url, sink: sink, slots: semaphore.NewWeighted(uplinkSlots)}
}

// acquire takes a slot; while the link fails it takes all of them, so that one
// send alone tries it. It returns what gives them back.
func (u *uplink) acquire(ctx context.Context) (func(), error) {
	u.mu.Lock()
	n := int64(1)
	if u.failing {
		n = uplinkSlots
	}
	u.mu.Unlock()
	if err := u.slots.Acquire(ctx, n); err != nil {
		return nil, context.Cause(ctx)
	}
	return func() { u.slots.Release(n) }, nil
}

// outcome learns from how a send or question went.
func (u *uplink) outcome(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch homeward.KindOf(err) {
	case homeward.Unavailable, homeward.Timeout:
		u.failing = true
	case homeward.Canceled:
	default:
		u.failing = false
	}
}

func (u *uplink) measured(bytes int64, busy time.Duration) {
	if bytes < sampleMin {
		return
	}
	speed := float64(bytes) / max(busy, time.Microsecond).Seconds()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.speed == 0 {
		u.speed = speed
		return
	}
	u.speed += (speed - u.speed) / 4
}

// choose is how frames are stored on this link under a cap (0: none); nil: as
// they are.
func (u *uplink) choose(compression string, limit int64) func(*delta.Frame) delta.Codec {
	switch compression {
	case "none":
		return nil
	case "s2":
		return delta.Fast.Choose
	case "zstd":
		return delta.WAN.Choose
	}
	u.mu.Lock()
	speed := u.speed
	u.mu.Unlock()
	if limit > 0 && (speed == 0 || float64(limit) < speed) {
		speed = float64(limit)
	}
	switch {
	case speed >= fastLink:
		return nil
	case speed >= slowLink || speed == 0:
		return delta.Fast.Choose
	}
	return delta.WAN.Choose
}

// outgoing is a delta on its way to the target: paced, counted and measured.
// One reader.
type outgoing struct {
	ctx   context.Context
	from  io.Reader
	close func()                    // ends a read of from
	wait  func(n int) time.Duration // before n bytes may go
	count func(n int)
	ended func() // there is no more to hand on
	chunk int    // bytes handed on at once

	sent     int64
	returned time.Time     // when the last Read returned
	busy     time.Duration // that the link took to absorb bytes
}

func (o *outgoing) Read(p []byte) (int, error) {
	if o.sent > 0 {
		o.busy += time.Since(o.returned)
	}
	n, err := o.from.Read(p[:min(len(p), o.chunk)])
	if n > 0 {
		if d := o.wait(n); d > 0 {
			t := time.NewTimer(d)
			defer t.Stop()
			select {
			case <-t.C:
			case <-o.ctx.Done():
				return 0, context.Cause(o.ctx)
			}
		}
		o.count(n)
		o.sent += int64(n)
	}
	if err != nil {
		o.ended()
	}
	o.returned = time.Now()
	return n, err
}

// Close ends a read that is under way.
func (o *outgoing) Close() error {
	o.close()
	return nil
}
