package service

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

// Options are what a vault is made of.
type Options struct {
	Store     *store.Store
	Roles     Roles
	Registry  Registry
	Identity  *pki.Identity // of the vault: it signs proofs
	Version   string        // of this build
	Addresses []vault.Address
	Rhythm    Rhythm
	Limits    Limits
	Log       *slog.Logger
	Now       func() time.Time   // nil: time.Now
	Fault     func(point string) // tests: called where a job is stored; nil: nothing
}

// Service is the vault. Its parts are vault.Vault, one contract each.
type Service struct {
	*core
	*sites
	*nodes
	*items
	*recoveries
	*policies
	*jobs
	*oversight
	*admission

	monitor   *monitor
	keeper    *keeper
	discovery *discovery
	assessor  *assessor
}

var _ vault.Vault = (*Service)(nil)

// core is what all parts share.
type core struct {
	store     *store.Store
	roles     Roles
	registry  Registry
	identity  *pki.Identity
	version   string
	addresses []vault.Address
	rhythm    Rhythm
	log       *slog.Logger
	now       func() time.Time
	opened    time.Time
	owners    ownership
	cut       func() error // tests: refuses what jobs write from some instant on; nil: never
}

// durably does a write that a job depends on. In tests it can be refused, and its
// answer be lost, as by a kill.
func (c *core) durably(write func() error) error {
	if c.cut == nil {
		return write()
	}
	if err := c.cut(); err != nil {
		return err
	}
	if err := write(); err != nil {
		return err
	}
	return c.cut()
}

// Open makes a vault over a store. It changes nothing and starts nothing: Run does.
func Open(ctx context.Context, o Options) (*Service, error) {
	if err := o.Limits.Validate(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	c := &core{store: o.Store, roles: o.Roles, registry: o.Registry, identity: o.Identity, version: o.Version, addresses: o.Addresses,
		rhythm: o.Rhythm.withDefaults(), log: o.Log, now: o.Now, opened: o.Now()}
	a := &alerts{core: c}
	if err := a.load(ctx); err != nil {
		return nil, err
	}
	m := &monitor{core: c, alerts: a}
	p := &placement{core: c}
	g := &gatherer{core: c, monitor: m, placement: p}
	judge := newAssessor(c, g)
	d := &discovery{core: c, alerts: a, woken: newBell(), changed: judge.touch}
	w := &workshop{core: c, alerts: a, monitor: m, placement: p, gatherer: g, discovery: d, bounds: o.Limits.withDefaults()}
	w.engine = job.New(job.Options{Store: faulty(&jobStore{c, judge.touchItem}, o.Fault), Definitions: w.definitions(), Log: o.Log, Now: o.Now,
		Limits: w.limits, Rank: w.rank, Max: maxJobs, Queue: maxJobs})
	s := &Service{core: c,
		sites: &sites{c, d}, nodes: &nodes{c}, policies: &policies{c}, admission: &admission{c, a},
		items: &items{w}, recoveries: &recoveries{w},
		jobs: &jobs{w}, oversight: &oversight{c},
		monitor: m, discovery: d, assessor: judge,
	}
	s.keeper = &keeper{workshop: w}
	return s, nil
}

// Run takes up the jobs that were cut short, and watches nodes, sites and items until
// ctx ends; then it waits for all that.
func (s *Service) Run(ctx context.Context) error {
	if err := s.keeper.resume(ctx); err != nil && ctx.Err() == nil {
		s.recoveries.engine.Close()
		return err
	}
	var running sync.WaitGroup
	for _, part := range []func(context.Context){s.discovery.run, s.monitor.run, s.keeper.run, s.assessor.run} {
		running.Go(func() { part(ctx) })
	}
	<-ctx.Done()
	running.Wait()
	s.recoveries.engine.Close()
	return nil
}

// Noted is told of a node that came, or about which something of note was heard
// (fleet.Options.Noted): what depends on it is looked at now. It does not block.
func (s *Service) Noted(n vault.Node) {
	if n.Role == pki.ConfigurationServer {
		s.discovery.woken.ring()
	}
	s.assessor.touch(n.Site)
}

// trouble logs what a background part could not do; it tries again.
func (c *core) trouble(what string) func(error) {
	return func(err error) {
		c.log.Warn("could not "+what+"; it is tried again", "error", err, "kind", homeward.KindOf(err))
	}
}
