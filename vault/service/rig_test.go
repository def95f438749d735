package service

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/enrol"
	"github.com/homeward-dr/homeward/member"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// rig is two sites with their roles in this process, and a vault over a real store.
type rig struct {
	t     *testing.T
	w     *world.World
	url   string
	store *store.Store
	*Service
	id        *pki.Identity
	authority *pki.Authority
	sites     map[string]*site
	clock     *clock
	tempo     Rhythm
	most      Limits
	ending    func()
	ended     chan struct{}
	absent    sync.Map // names of master targets that cannot be asked, or a *brokenTarget; of process servers, what makes another of them
}

// clock is the vault's, which a test may set forward.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// site is a world's site behind its configuration server, which can be away.
type site struct {
	*world.Hypervisor
	*member.Prober

	mu    sync.Mutex
	names []string // of machines that were ever made
	away  bool
	blind bool                          // it answers, but does not list its machines
	made  map[string]homeward.Operation // disks, by key: sites remember those
}

func (s *site) answer() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return homeward.Errorf("ask site", homeward.Unavailable, "site", "start its configuration server", "it is away")
	}
	return nil
}

func (s *site) leave(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *site) CreateDisk(ctx context.Context, key string, d homeward.Disk, datastore string) (op homeward.Operation, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	op, known := s.made[key]
	if !known {
		if op, err = s.Hypervisor.CreateDisk(ctx, key, d, datastore); err == nil {
			s.made[key] = op
		}
	}
	return op, err
}

func (s *site) Create(ctx context.Context, key string, m homeward.Machine, disks []homeward.Attachment) (homeward.Operation, error) {
	s.mu.Lock()
	if name := string(m.Item); !slices.Contains(s.names, name) {
		s.names = append(s.names, name)
	}
	s.mu.Unlock()
	return s.Hypervisor.Create(ctx, key, m, disks)
}

func (s *site) Machines(ctx context.Context) (all []homeward.SiteMachine, err error) {
	if err := s.answer(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	names, blind := slices.Clone(s.names), s.blind
	s.mu.Unlock()
	if blind {
		return nil, homeward.Errorf("list machines", homeward.Forbidden, "site", "grant it", "the privilege is missing")
	}
	for _, name := range names {
		m, err := s.Hypervisor.Machine(ctx, homeward.Ref{Native: name})
		if homeward.KindOf(err) == homeward.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		m.Machine.OSFamily, m.Machine.OSVersion = "linux", "6.1"
		m.Ref.UUID = "uuid-" + name
		all = append(all, m)
	}
	return all, nil
}

func (s *site) Machine(ctx context.Context, ref homeward.Ref) (homeward.SiteMachine, error) {
	if err := s.answer(); err != nil {
		return homeward.SiteMachine{}, err
	}
	return s.Hypervisor.Machine(ctx, ref)
}

func (s *site) DeleteDisk(ctx context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	if err := s.answer(); err != nil {
		return homeward.Operation{}, err
	}
	return s.Hypervisor.DeleteDisk(ctx, key, ref)
}

func (s *site) PowerOff(ctx context.Context, key string, ref homeward.Ref, stop homeward.Stop) (homeward.Operation, error) {
	if err := s.answer(); err != nil {
		return homeward.Operation{}, err
	}
	return s.Hypervisor.PowerOff(ctx, key, ref, stop)
}

func (s *site) Capabilities(context.Context) (homeward.Capabilities, error) {
	return homeward.Capabilities{Kind: "world", Lacks: map[string]string{"Snapshot": "media have none"}}, s.answer()
}

func (s *site) Facts(context.Context) ([]homeward.Fact, error) { return nil, s.answer() }

func (s *site) GuardsOf(ctx context.Context, ref homeward.Ref) ([]homeward.Guard, error) {
	m, err := s.Machine(ctx, ref)
	return m.Guards, err
}

// roles are the vault's Roles and Registry: nodes in this process.
type roles struct{ *rig }

func (r roles) Agent(name string) homeward.Agent { return r.side(name).Agent }

func (r roles) ProcessServer(name string) homeward.ProcessServer {
	if how, changed := r.absent.Load(name); changed {
		return how.(func(homeward.ProcessServer) homeward.ProcessServer)(r.side(name).Process)
	}
	return r.side(name).Process
}

func (r roles) MasterTarget(name string) homeward.MasterTarget {
	if how, away := r.absent.Load(name); away {
		if broken, is := how.(*brokenTarget); is {
			broken.MasterTarget = r.side(name).Target
			return broken
		}
		return awayTarget{}
	}
	return r.side(name).Target
}

// brokenTarget answers, and cannot make a replica.
type brokenTarget struct {
	homeward.MasterTarget
	forgot atomic.Int64
}

func (*brokenTarget) Prepare(context.Context, homeward.ReplicaRequest) (homeward.ReplicaReport, error) {
	return homeward.ReplicaReport{}, homeward.Errorf("prepare replica", homeward.IO, "master target", "mend its volume, then retry", "its volume is read-only")
}

func (b *brokenTarget) Forget(ctx context.Context, req homeward.GenerationRequest) (homeward.Done, error) {
	b.forgot.Add(1)
	return b.MasterTarget.Forget(ctx, req)
}

// awayTarget cannot be reached.
type awayTarget struct{ homeward.MasterTarget }

func (awayTarget) Report(context.Context, homeward.ItemRequest) (homeward.ReplicaReport, error) {
	return homeward.ReplicaReport{}, homeward.Errorf("ask master target", homeward.Unavailable, "master target", "start it", "it is away")
}

func (t awayTarget) Prepare(ctx context.Context, req homeward.ReplicaRequest) (homeward.ReplicaReport, error) {
	return t.Report(ctx, homeward.ItemRequest{Item: req.Machine.Item})
}

func (t awayTarget) CancelFailOver(ctx context.Context, req homeward.GenerationRequest) (homeward.ReplicaReport, error) {
	return t.Report(ctx, homeward.ItemRequest{Item: req.Item})
}

func (r roles) Site(name string) (homeward.Site, error) {
	if s := r.sites[name]; s != nil {
		return s, nil
	}
	return nil, homeward.Errorf("find site", homeward.NotFound, "site "+name, "enrol one", "no configuration server has enrolled there")
}

func (r *rig) side(node string) *recovery.Side {
	if node == "mt-2-away" && r.w.Away.Spare != nil {
		return r.w.Away.SpareSide(homeward.Machine{})
	}
	at := r.w.Home
	if len(node) > 4 && node[len(node)-4:] == "away" {
		at = r.w.Away
	}
	return at.Side(homeward.Machine{})
}

func (r roles) CreateToken(ctx context.Context, req vault.EnrolmentRequest) (vault.EnrolmentToken, error) {
	door, err := enrol.NewServer(enrol.Options{Enrolments: r.store.Enrolments, Nodes: r.store.Nodes, Tx: r.store.Tx,
		Authority: r.authority, Identity: r.id, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return vault.EnrolmentToken{}, err
	}
	return door.CreateToken(ctx, req)
}

func (r roles) Revoke(ctx context.Context, name string) (vault.Node, error) {
	return r.store.Nodes.Change(ctx, name, func(n *vault.Node) error { n.State = vault.NodeRevoked; return nil })
}

func (r roles) Learn(context.Context, string) error { return nil }

func (r roles) Refresh(ctx context.Context, name string) (vault.Node, error) {
	return r.store.Nodes.Get(ctx, name)
}

func (r roles) Live(row vault.Node) vault.Node { return row }

func (r roles) MaxGeneration(id homeward.ItemID) (newest homeward.Generation) {
	for _, name := range []string{"mt-home", "mt-away"} {
		report, err := r.side(name).Target.Report(context.Background(), homeward.ItemRequest{Item: id})
		if err == nil && report.Generation.Number > newest.Number {
			newest = report.Generation
		}
	}
	return newest
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newRig makes sites, nodes and a policy; nothing is protected.
func newRig(t *testing.T, o world.Options) (*rig, context.Context) {
	t.Helper()
	return newRigOn(t, newFile(t), o)
}

// newRigOn makes one whose vault keeps everything in an empty database.
func newRigOn(t *testing.T, url string, o world.Options) (*rig, context.Context) {
	t.Helper()
	w := world.New(t, powerloss.Rand(t), o)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	must(t, w.AwaitAll(ctx))
	r := &rig{t: t, w: w, url: url, clock: &clock{},
		tempo: Rhythm{Inventory: 200 * time.Millisecond, Monitor: 100 * time.Millisecond, Readiness: 300 * time.Millisecond, Expiry: 100 * time.Millisecond}}
	tries := member.NewProber("/bin/sh")
	r.sites = map[string]*site{"home": {Hypervisor: w.Home.Hyper, Prober: tries, made: map[string]homeward.Operation{}},
		"away": {Hypervisor: w.Away.Hyper, Prober: tries, made: map[string]homeward.Operation{}}}
	for _, it := range w.Items {
		var own []homeward.Attachment
		for i, d := range it.Machine.Disks {
			own = append(own, homeward.Attachment{Disk: d.ID, Ref: it.Running.Disks[i], Slot: i})
		}
		_, err := r.sites["home"].Create(ctx, "", it.Machine, own)
		must(t, err)
	}
	r.authority, r.id = identity(t)
	r.open(ctx)
	t.Cleanup(func() { r.close() })
	r.furnish(ctx)
	return r, ctx
}

func identity(t *testing.T) (*pki.Authority, *pki.Identity) {
	t.Helper()
	dir := t.TempDir()
	a, err := pki.CreateAuthority(durable.OS(), filepath.Join(dir, "ca"), "test")
	must(t, err)
	must(t, a.Issue(pki.Request{Peer: pki.Peer{Role: pki.Vault, Name: "vault"}}, filepath.Join(dir, "id")))
	id, err := pki.LoadIdentity(durable.OS(), filepath.Join(dir, "id"))
	must(t, err)
	return a, id
}

// open starts a vault over the store.
func (r *rig) open(ctx context.Context) {
	r.t.Helper()
	r.openCut(ctx, nil)
}

// openCut starts one whose jobs' writes can be refused.
func (r *rig) openCut(ctx context.Context, cut func() error) {
	r.t.Helper()
	var err error
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(r.t.Output(), nil))
	}
	r.store, err = store.Open(ctx, store.Config{URL: r.url, Log: log, Now: r.clock.now})
	must(r.t, err)
	r.Service, err = Open(ctx, Options{Store: r.store, Roles: roles{r}, Registry: roles{r}, Identity: r.id, Version: "test", Log: log, Now: r.clock.now,
		Rhythm: r.tempo, Limits: r.most})
	must(r.t, err)
	r.cut = cut
	running, stop := context.WithCancel(context.Background())
	r.ending, r.ended = stop, make(chan struct{})
	go func() {
		defer close(r.ended)
		if err := r.Run(running); err != nil {
			r.t.Errorf("the vault ended: %v", err)
		}
	}()
}

// close ends the vault as it stands, whatever it is doing.
func (r *rig) close() {
	r.t.Helper()
	r.ending()
	<-r.ended
	must(r.t, r.store.Close())
}

// furnish enters what enrolment and heartbeats would have.
func (r *rig) furnish(ctx context.Context) {
	r.t.Helper()
	for _, name := range []string{"home", "away"} {
		_, err := r.PutSite(admin(ctx), vault.SiteRequest{Name: name})
		must(r.t, err)
		for role, short := range map[pki.Role]string{pki.Agent: "agent", pki.ProcessServer: "ps", pki.MasterTarget: "mt"} {
			n := r.node(role, short, name)
			must(r.t, r.store.Nodes.Insert(ctx, &n))
		}
		_, err = r.RefreshSite(admin(ctx), name)
		must(r.t, err)
	}
	_, err := r.PutPolicy(admin(ctx), vault.PolicyRequest{Name: "gold", Settings: homeward.Policy{MinInterval: 50 * time.Millisecond, RPOThreshold: time.Minute}})
	must(r.t, err)
}

func (r *rig) node(role pki.Role, short, site string) vault.Node {
	now := r.clock.now()
	other := map[string]string{"home": "away", "away": "home"}[site]
	n := vault.Node{Name: short + "-" + site, Role: role, Site: site, State: vault.NodeReady, Version: "test", Enrolled: now, Heartbeat: now,
		Expires: now.Add(24 * time.Hour), Addresses: []vault.Address{{Host: site + "-" + short, Purpose: vault.Production}},
		Health: homeward.HealthReport{At: now, OSFamily: "linux", OSVersion: "6.1", Disks: 0}}
	if role == pki.MasterTarget {
		n.Health.Volumes = []homeward.Volume{{Path: "/retention", Device: "/dev/r", FSType: "ext4", Size: 1 << 40, Free: 1 << 40, Default: true},
			{Path: "/fat", Device: "/dev/f", FSType: "vfat", Size: 1 << 40, Free: 1 << 40}}
	}
	for _, peer := range []string{"ps-" + site, "mt-" + other} {
		n.Reachables = append(n.Reachables, homeward.ProbeReport{Peer: peer, URL: "https://" + peer, At: now, Reachable: true, RTT: time.Millisecond, Rate: 1 << 30})
	}
	return n
}

func as(ctx context.Context, a vault.Access) context.Context {
	return vault.WithCaller(ctx, vault.Caller{Name: "test-" + string(a), Access: a})
}

func admin(ctx context.Context) context.Context { return as(ctx, vault.Administrator) }

// do asks for an action and waits until its job, and the one that it leaves behind,
// have ended well.
func (r *rig) do(ctx context.Context, item homeward.ItemID, a vault.Action, in vault.Input) vault.Job {
	r.t.Helper()
	req := vault.ActionRequest{Item: item, Action: a, Input: in}
	if a == vault.Enable {
		req.Machine = "home/" + string(item)
	}
	var j vault.Job
	for {
		var err error
		j, err = r.Act(admin(ctx), req)
		if err == nil {
			break
		}
		if homeward.KindOf(err) != homeward.Conflict || ctx.Err() != nil {
			r.t.Fatalf("%s: %v", a, err)
		}
		must(r.t, r.w.Tick(ctx)) // a fact may be about to be known
	}
	return r.wait(ctx, j.ID)
}

func (r *rig) wait(ctx context.Context, id string) vault.Job {
	r.t.Helper()
	for {
		j, err := r.Job(admin(ctx), id)
		must(r.t, err)
		if j.State.Ended() || j.State == vault.JobPaused {
			if j.State != vault.JobSucceeded {
				r.t.Fatalf("job %s is %s: %+v\n%s", j.Title, j.State, j.Error, tree(j))
			}
			for _, t := range j.Tasks {
				if t.Job != "" {
					r.wait(ctx, t.Job)
				}
			}
			return j
		}
		must(r.t, r.w.Tick(ctx))
	}
}

func tree(j vault.Job) (s string) {
	for _, t := range j.Tasks {
		s += fmt.Sprintf("  %s %s %s\n", t.State, t.Title, t.Why)
		for _, c := range t.Children {
			s += fmt.Sprintf("      %s %s %s\n", c.State, c.Title, c.Why)
		}
	}
	return s
}

func (r *rig) item(ctx context.Context, id homeward.ItemID) vault.Item {
	r.t.Helper()
	it, err := r.Item(admin(ctx), id)
	must(r.t, err)
	return it
}
