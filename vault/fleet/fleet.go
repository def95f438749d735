package fleet

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

// How often things happen.
const (
	defaultInterval = 10 * time.Second
	defaultProbes   = 5 * time.Minute
	tick            = time.Second
	listEvery       = 30 * time.Second // the revocation list is read again
)

// Bounds.
const (
	beatsAtOnce  = 64
	probesAtOnce = 4
	beatTimeout  = 10 * time.Second
)

// settingGenerations holds the newest generation of every item that was ever
// reported, as JSON.
const settingGenerations = "reported-generations"

// Options are for Open.
type Options struct {
	Store     *store.Store
	Hub       *role.Hub // its Admit should be Fleet.Admit, see Admission
	Authority *pki.Authority
	Identity  *pki.Identity // the vault's own: it takes new revocation lists
	// Pairs are the ways that are needed, asked for at every round of probes; nil: none
	// is probed.
	Pairs func(ctx context.Context) ([]Pair, error)
	// Noted is told of a node that came, or of which something of note changed, its ways
	// included. It must not block. nil: nobody is told.
	Noted func(vault.Node)
	// Member is the client of a node; nil: role.Member.
	Member   func(*role.Node) homeward.Member
	Interval time.Duration    // of heartbeats; 0: 10 s
	Probes   time.Duration    // between two probes of a way; 0: 5 min
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger
}

// Fleet is the vault's knowledge of nodes. Safe for concurrent use. Memory: one
// entry for each node, of the size of its newest heartbeat.
type Fleet struct {
	o     Options
	begun time.Time
	wake  chan struct{} // something changed that is worth writing now
	slots chan struct{} // of beats
	lanes chan struct{} // of probes
	work  sync.WaitGroup

	mu          sync.Mutex
	nodes       map[string]*live
	generations map[homeward.ItemID]homeward.Generation
	unsaved     bool // generations
	list        []byte
	listRead    time.Time
	ways        map[Pair]time.Time // when each is probed next
	listing     bool               // ways that are due are looked for
	nextRound   time.Time

	flushing sync.Mutex
	told     string // the newest trouble that was logged
}

// Open reads what is known of nodes, and makes the hub expect them. It completes
// revocations that a crash cut off. Run begins with the heartbeats.
func Open(ctx context.Context, o Options) (*Fleet, error) {
	if o.Store == nil || o.Hub == nil || o.Authority == nil || o.Identity == nil || o.Log == nil {
		return nil, homeward.Errorf("open fleet", homeward.Invalid, "options", "give Store, Hub, Authority, Identity and Log", "one of them is missing")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Member == nil {
		o.Member = role.Member
	}
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	if o.Probes == 0 {
		o.Probes = defaultProbes
	}
	if o.Noted == nil {
		o.Noted = func(vault.Node) {}
	}
	f := &Fleet{o: o, begun: o.Now(), wake: make(chan struct{}, 1), slots: make(chan struct{}, beatsAtOnce), lanes: make(chan struct{}, probesAtOnce),
		nodes: map[string]*live{}, generations: map[homeward.ItemID]homeward.Generation{}, ways: map[Pair]time.Time{}}
	if err := f.load(ctx); err != nil {
		return nil, homeward.Wrap(err, "open fleet", "")
	}
	return f, nil
}

func (f *Fleet) load(ctx context.Context) error {
	text, err := f.o.Store.Setting(ctx, settingGenerations)
	if err != nil {
		return err
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &f.generations); err != nil {
			return homeward.Errorf("read setting", homeward.Corrupt, settingGenerations, "restore the store from a backup", "%w", err)
		}
	}
	var void []string
	for n, err := range f.o.Store.Nodes.All(ctx, vault.Query{}) {
		if err != nil {
			return err
		}
		f.know(n)
		if n.State == vault.NodeRevoked {
			void = append(void, serialsOf(n)...)
		}
	}
	if err := f.revoke(void); err != nil {
		return err
	}
	return f.loadAlerts(ctx)
}

// Run asks for heartbeats, probes ways, and writes down what is worth it, until ctx
// ends; it waits for all that and returns nil.
func (f *Fleet) Run(ctx context.Context) error {
	f.work.Go(func() { f.listen(ctx) })
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		f.dispatch(ctx)
		f.probe(ctx)
		if err := f.flush(ctx); err != nil && ctx.Err() == nil {
			f.trouble(err)
		}
		select {
		case <-ctx.Done():
			f.work.Wait()
			return nil
		case <-ticker.C:
		case <-f.wake:
		}
	}
}

// listen makes a node that connects beat at once. A subscription that is cut off is
// renewed: all it is for is speed.
func (f *Fleet) listen(ctx context.Context) {
	for ctx.Err() == nil {
		events, stop := f.o.Hub.Subscribe()
		f.follow(ctx, events)
		stop()
	}
}

func (f *Fleet) follow(ctx context.Context, events <-chan role.Event) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, open := <-events:
			if !open {
				return
			}
			f.mu.Lock()
			if l := f.nodes[e.Name]; l != nil && e.Connected {
				l.next, l.ask, l.hasList = time.Time{}, true, nil
			}
			f.mu.Unlock()
			f.nudge()
		}
	}
}

// nudge makes the loop look now.
func (f *Fleet) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// trouble logs what could not be done, once per change: it is tried again.
func (f *Fleet) trouble(err error) {
	if text := err.Error(); text != f.told {
		f.told = text
		f.o.Log.Warn("the state of nodes could not be written; it is tried again", "error", err)
	}
}

// MaxGeneration is the newest generation of an item that any node has ever
// reported; zero: none has. What a vault issues must be above it.
func (f *Fleet) MaxGeneration(item homeward.ItemID) homeward.Generation {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.generations[item]
}
