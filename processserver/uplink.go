package processserver

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
)

const (
	uplinkSlots = 8       // sends at once to one target
	sampleMin   = 1 << 20 // bytes of a send that tell a link's speed
	fastLink    = 300e6   // bytes a second from which compressing costs more than it saves
	slowLink    = 50e6    // below, zstd; up to fastLink, s2
)

// uplink is the way to one target, shared by its items: they take slots, and pass its
// cap, by weight. Safe for concurrent use.
type uplink struct {
	url   string
	sink  homeward.Sink
	slots *fair
	lane  *lane

	mu      sync.Mutex
	speed   float64 // bytes a second, smoothed; 0: not known yet
	failing bool
}

func newUplink(url string, sink homeward.Sink) *uplink {
	return &uplink{url: url, sink: sink, slots: newFair(uplinkSlots), lane: newLane()}
}

// acquire takes a slot for a route; while the link fails it takes all of them, so that
// one send alone tries it. It returns what gives them back. What the send comes to is
// charged as its bytes go.
func (u *uplink) acquire(ctx context.Context, of *route) (func(), error) {
	u.mu.Lock()
	n := 1
	if u.failing {
		n = uplinkSlots
	}
	u.mu.Unlock()
	return u.slots.acquire(ctx, of, n, 0)
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
	close func() // ends a read of from
	pacer pacer
	ended func() // there is no more to hand on

	buf      []byte // of a chunk
	rest     []byte // what of it may go and was not handed on
	err      error  // what comes after it
	sent     int64
	returned time.Time     // when the last Read returned
	busy     time.Duration // that the link took to absorb bytes
}

func (o *outgoing) Read(p []byte) (int, error) {
	if o.sent > 0 {
		o.busy += time.Since(o.returned)
	}
	if len(o.rest) == 0 && o.err == nil {
		if err := o.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, o.rest)
	o.rest = o.rest[n:]
	var err error
	if len(o.rest) == 0 && o.err != nil {
		err = o.err
		o.ended()
	}
	o.sent += int64(n)
	o.returned = time.Now()
	return n, err
}

// fill reads the next chunk, and waits until it may go.
func (o *outgoing) fill() error {
	if o.buf == nil {
		o.buf = make([]byte, maxChunk)
	}
	n, err := o.from.Read(o.buf[:o.pacer.chunk()])
	o.err = err
	if n == 0 {
		return nil
	}
	if err := o.pacer.pass(o.ctx, n); err != nil {
		return err
	}
	o.pacer.went(n)
	o.rest = o.buf[:n]
	return nil
}

// Close ends a read that is under way.
func (o *outgoing) Close() error {
	o.close()
	return nil
}
