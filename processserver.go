package homeward

import (
	"context"
	"time"
)

// ProcessServer receives deltas from agents, spools them within bounds,
// compresses what compresses, and forwards them under bandwidth caps. Its data
// face is a Sink.
type ProcessServer interface {
	// Prepare routes an item to its master target.
	Prepare(ctx context.Context, req RouteRequest) (RouteReport, error)
	// Forget drops the route and what is spooled for it; older generations are refused.
	Forget(ctx context.Context, req GenerationRequest) (Done, error)
	// Limit sets the bandwidth schedule of one link.
	Limit(ctx context.Context, req LimitRequest) (Done, error)
	Report(ctx context.Context, req ItemRequest) (RouteReport, error)
	Fencer
}

// RouteRequest is for ProcessServer.Prepare.
type RouteRequest struct {
	Item       ItemID     `json:"item"`
	Generation Generation `json:"generation"`
	Target     string     `json:"target"` // URL of the master target, https://name@host:port; without a name: any master target there
	// Agent names the agent whose deltas are taken; empty: any. It can be changed by
	// preparing the same route again.
	Agent string `json:"agent,omitempty"`
	// Compression: "auto" (the default: by measured link speed), "none", "s2", "zstd".
	Compression string `json:"compression,omitempty"`
	// Share is this item's part of the spool in bytes; 0: an equal part.
	Share int64 `json:"share,omitempty"`
	// Weight is this item's part of bandwidth, 1 to MaxWeight; 0: DefaultWeight. Under
	// each cap (Limit), routes that have something to send share it in proportion to
	// their weights, and what one does not use goes to the others. A route of weight w
	// among others of W together gets w/(w+W) of the cap while it wants that: nobody
	// starves. Without a cap, deltas that wait for one of the few sends at once to a
	// target get their turn by weight; those under way share the link as TCP divides it.
	// Deltas that go on with a larger set (a first copy, a resync) weigh a quarter.
	// Preparing the same route again changes it for what is under way, too.
	Weight int `json:"weight,omitempty"`
}

// Weights of routes.
const (
	DefaultWeight = 5
	MaxWeight     = 10
)

// RouteReport tells how a route stands.
type RouteReport struct {
	Item        ItemID     `json:"item"`
	Generation  Generation `json:"generation"`
	Target      string     `json:"target"`
	Standing    Standing   `json:"standing"`
	PlainBytes  int64      `json:"plain_bytes"` // of deltas forwarded, as received
	WireBytes   int64      `json:"wire_bytes"`  // as sent
	SpoolBytes  int64      `json:"spool_bytes"`
	SpoolLimit  int64      `json:"spool_limit"`
	TargetError string     `json:"target_error,omitempty"` // of the last forward, with its remedy
	Weight      int        `json:"weight,omitempty"`       // in force; 0: the process server is too old to have any
}

// LimitRequest caps what a process server sends to one target.
type LimitRequest struct {
	Target   string   `json:"target,omitempty"` // URL; empty: all together
	Schedule []Window `json:"schedule"`         // first match counts; none matches: no cap
}

// Window is a part of the week with a cap.
type Window struct {
	Days           []time.Weekday `json:"days,omitempty"`   // empty: every day
	From           string         `json:"from,omitempty"`   // "08:00", local time; empty: from midnight
	To             string         `json:"to,omitempty"`     // "18:00"; empty: to midnight; before From: over midnight
	BytesPerSecond int64          `json:"bytes_per_second"` // 0: no cap
}
