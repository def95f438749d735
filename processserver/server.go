package processserver

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/ship"
)

const (
	maxReceives = 32 // deltas being received at once
	maxOfItem   = 4  // of them of one item: an agent has three under way
	maxSends    = 12 // deltas being sent at once
	maxUnkept   = 3  // whole deltas in memory that the spool's disk did not take
)

// Config is what a Server needs. Dir, SpoolBytes, FS, Dial and Log must be set.
type Config struct {
	Dir        string // spool directory, made if absent; one Server at a time
	SpoolBytes int64  // bound on all spooled deltas, in bytes; at least 1 MiB
	FS         durable.FS
	// Dial makes the sink that stands for a target. It must bound its own waits, as
	// ship.Client does. One with a Close method is closed when no item goes there.
	Dial func(url string) homeward.Sink
	Log  *slog.Logger

	Now      func() time.Time // default time.Now; of schedules and retries
	Patience time.Duration    // for a delta's predecessor; default ship.Patience
	Grace    time.Duration    // how long a spooled delta's answer waits for the target; default 200 ms
	Retry    time.Duration    // before the second attempt, doubled up to 30 s; default 200 ms
}

func (c *Config) complete() error {
	bad := func(field, fix string) error {
		return homeward.Errorf("open process server", homeward.Invalid, field, fix, "not usable")
	}
	switch {
	case c.Dir == "":
		return bad("dir", "give a directory on a disk with room for the spool")
	case c.SpoolBytes < 1<<20:
		return bad("spool_bytes", "give at least 1 MiB")
	case c.FS == nil || c.Dial == nil || c.Log == nil:
		return bad("fs, dial, log", "set all three")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Patience <= 0 {
		c.Patience = ship.Patience
	}
	if c.Grace <= 0 {
		c.Grace = 200 * time.Millisecond
	}
	if c.Retry <= 0 {
		c.Retry = 200 * time.Millisecond
	}
	return nil
}

// Server is a process server. It implements homeward.ProcessServer and
// homeward.Sink. All methods may be called concurrently.
type Server struct {
	cfg         Config
	incarnation homeward.ID
	budget      *budget
	receives    *semaphore.Weighted
	sends       *fair
	unkept      *semaphore.Weighted
	attempts    atomic.Uint64 // to receive a delta, since Open
	lock        *durable.Lock
	life        context.Context // ends with Close
	end         context.CancelCauseFunc

	mu      sync.Mutex // guards what follows; taken before a route's
	closed  bool
	calls   sync.WaitGroup // puts and standings that run
	loops   sync.WaitGroup // of routes
	routes  map[homeward.ItemID]*route
	uplinks map[string]*uplink
	limits  map[string][]homeward.Window // by addressOf a target; "": all together
	all     *lane
}

var (
	_ homeward.Sink          = (*Server)(nil)
	_ homeward.ProcessServer = (*Server)(nil)
)

// Open opens the spool directory and goes on with what is spooled in it. The
// server ends with Close, or with ctx; Close is needed all the same.
//
// Errors: Invalid for a bad config; InUse when another process has the directory;
// Corrupt when a route cannot be read (remove its directory: the agent cuts again).
func Open(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if err := cfg.FS.MkdirAll(filepath.Join(cfg.Dir, "items"), 0o700); err != nil {
		return nil, homeward.Wrap(err, "open process server", cfg.Dir)
	}
	lock, err := durable.LockFile(cfg.FS, filepath.Join(cfg.Dir, "lock"))
	if err != nil {
		return nil, homeward.Wrap(err, "open process server", cfg.Dir)
	}
	s := &Server{cfg: cfg, lock: lock, budget: newBudget(cfg.SpoolBytes),
		receives: semaphore.NewWeighted(maxReceives), sends: newFair(maxSends), unkept: semaphore.NewWeighted(maxUnkept), all: newLane(),
		routes: map[homeward.ItemID]*route{}, uplinks: map[string]*uplink{}, limits: map[string][]homeward.Window{}}
	if err := s.load(); err != nil {
		_ = lock.Unlock() // the reason for not opening is told
		return nil, homeward.Wrap(err, "open process server", cfg.Dir)
	}
	s.life, s.end = context.WithCancelCause(ctx)
	for _, r := range s.routes {
		s.connect(r)
		s.loops.Go(func() { r.run(s.life) })
	}
	return s, nil
}

// Close stops forwarding and puts (what is spooled stays), waits until all of it
// has ended and gives the directory free.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.end(homeward.Errorf("use process server", homeward.Unavailable, s.cfg.Dir, "retry when it runs again", "it is stopping"))
	s.calls.Wait()
	s.loops.Wait()
	var failed error
	for _, r := range s.routes {
		r.mu.Lock()
		if err := r.store(r.record); err != nil { // for its counters
			failed = err
		}
		r.mu.Unlock()
	}
	for _, up := range s.uplinks {
		closeSink(up.sink)
	}
	if err := s.lock.Unlock(); err != nil {
		failed = err
	}
	return homeward.Wrap(failed, "close process server", s.cfg.Dir)
}

func closeSink(sink homeward.Sink) {
	if c, ok := sink.(io.Closer); ok {
		_ = c.Close() // idle connections: nothing is lost
	}
}

// begin counts a call in; its context ends with the server, too.
func (s *Server) begin(ctx context.Context) (context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.life.Err() != nil {
		return nil, nil, homeward.Errorf("use process server", homeward.Unavailable, s.cfg.Dir, "retry when it runs again", "it is stopping")
	}
	s.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })
	return ctx, func() { stop(); cancel(nil); s.calls.Done() }, nil
}

func notRouted(item homeward.ItemID) error {
	return homeward.Errorf("find route", homeward.NotFound, "item "+string(item), "prepare the process server for it", "no route to a target")
}

// routed is the route of an item that has a target.
func (s *Server) routed(item homeward.ItemID) (*route, error) {
	s.mu.Lock()
	r := s.routes[item]
	s.mu.Unlock()
	if r == nil {
		return nil, notRouted(item)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.record.Target == "" {
		return nil, notRouted(item)
	}
	return r, nil
}

func (s *Server) reserveMemory() error {
	if s.unkept.TryAcquire(1) {
		return nil
	}
	return homeward.Errorf("spool delta", homeward.NoSpace, s.cfg.Dir, "look at the spool's disk",
		"it fails, and %d deltas are held in memory already", maxUnkept)
}

func (s *Server) giveMemory() { s.unkept.Release(1) }

// connect gives a route the uplink of its target. s.mu or nobody else has s.
func (s *Server) connect(r *route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.record.Target == "" {
		r.up = nil
		return
	}
	up := s.uplinks[r.record.Target]
	if up == nil {
		up = newUplink(r.record.Target, s.cfg.Dial(r.record.Target))
		s.uplinks[r.record.Target] = up
	}
	r.up = up
	r.notify()
}

// sweepUplinks closes uplinks that no route uses. s.mu is held.
func (s *Server) sweepUplinks() {
	used := map[*uplink]bool{}
	for _, r := range s.routes {
		r.mu.Lock()
		used[r.up] = true
		r.mu.Unlock()
	}
	for url, up := range s.uplinks {
		if !used[up] {
			closeSink(up.sink)
			delete(s.uplinks, url)
		}
	}
}

// limitOf is the cap on what goes over up now, in bytes a second; 0: none.
func (s *Server) limitOf(up *uplink) int64 {
	return tighter(s.caps(up))
}

// caps are those on the way to up, and on all ways together; 0: none.
func (s *Server) caps(up *uplink) (mine, all int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	return rateAt(s.limits[addressOf(up.url)], now), rateAt(s.limits[""], now)
}
