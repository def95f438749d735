package apitest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// Memory is a vault in memory. Safe for concurrent use. Close it when done.
//
// It begins with two sites, "home" and "dr", each with its nodes ("cs-home",
// "agent-home", "ps-home", "mt-home" and the same of dr), three machines at home
// ("home/vm-1" to "home/vm-3"), and policy "gold".
type Memory struct {
	mu         sync.Mutex
	sites      table[vault.Site]
	machines   table[vault.Machine]
	nodes      table[vault.Node]
	enrolments table[vault.EnrolmentToken]
	policies   table[vault.Policy]
	items      table[vault.Item]
	jobs       table[vault.Job]
	artefacts  table[artefact]
	alerts     table[vault.Alert]
	tokens     table[vault.APIToken]
	audit      table[auditEntry]
	hashes     map[string]string // secret → token
	points     map[homeward.ItemID][]homeward.Point
	keys       map[string]keyed
	events     []vault.Event
	kept       int           // events
	changed    chan struct{} // closed and replaced with every event
	status     vault.Status
	hold       map[string]chan struct{} // task → closed when it may go on
	pauses     map[string]bool          // tasks that wait for a person, once
	told       map[string]chan vault.JobAction
	counter    int
	done       context.Context
	close      context.CancelFunc
	wg         sync.WaitGroup
}

var _ vault.Vault = (*Memory)(nil)

// keyed is what an idempotency key was used for.
type keyed struct {
	request string
	job     string
}

// artefact and auditEntry have a Meta that their tables need and nobody sees.
type (
	artefact struct {
		vault.Artefact
		meta vault.Meta
	}
	auditEntry struct {
		vault.AuditEntry
		meta vault.Meta
	}
)

// NewMemory makes a vault with something in it.
func NewMemory() *Memory {
	m := &Memory{hashes: map[string]string{}, points: map[homeward.ItemID][]homeward.Point{}, keys: map[string]keyed{},
		changed: make(chan struct{}), kept: 1000, status: vault.Status{Version: "test", Epoch: 1, Store: "memory"},
		hold: map[string]chan struct{}{}, pauses: map[string]bool{}, told: map[string]chan vault.JobAction{}}
	m.done, m.close = context.WithCancel(context.Background())
	m.defineTables()
	m.seed()
	return m
}

// Close waits for the jobs, which stop where they stand.
func (m *Memory) Close() {
	m.close()
	m.wg.Wait()
}

func (m *Memory) defineTables() {
	m.sites = table[vault.Site]{m, "site", "site", map[string]vault.Site{}, func(v *vault.Site) *vault.Meta { return &v.Meta }, nil, false}
	m.machines = table[vault.Machine]{m, "machine", "machine", map[string]vault.Machine{}, func(v *vault.Machine) *vault.Meta { return &v.Meta },
		map[string]func(vault.Machine) string{"site": func(v vault.Machine) string { return v.Site }, "item": func(v vault.Machine) string { return string(v.Item) }, "state": func(v vault.Machine) string { return string(v.Presence) }}, false}
	m.nodes = table[vault.Node]{m, "node", "node", map[string]vault.Node{}, func(v *vault.Node) *vault.Meta { return &v.Meta },
		map[string]func(vault.Node) string{"site": func(v vault.Node) string { return v.Site }, "role": func(v vault.Node) string { return string(v.Role) }, "state": func(v vault.Node) string { return string(v.State) }}, false}
	m.enrolments = table[vault.EnrolmentToken]{m, "enrolment token", "", map[string]vault.EnrolmentToken{}, func(v *vault.EnrolmentToken) *vault.Meta { return &v.Meta },
		map[string]func(vault.EnrolmentToken) string{"site": func(v vault.EnrolmentToken) string { return v.Site }, "role": func(v vault.EnrolmentToken) string { return string(v.Role) }}, false}
	m.policies = table[vault.Policy]{m, "policy", "policy", map[string]vault.Policy{}, func(v *vault.Policy) *vault.Meta { return &v.Meta }, nil, false}
	m.items = table[vault.Item]{m, "item", "item", map[string]vault.Item{}, func(v *vault.Item) *vault.Meta { return &v.Meta },
		map[string]func(vault.Item) string{"site": func(v vault.Item) string { return v.ActiveSite }, "state": func(v vault.Item) string { return string(v.State) }}, false}
	m.jobs = table[vault.Job]{m, "job", "job", map[string]vault.Job{}, func(v *vault.Job) *vault.Meta { return &v.Meta },
		map[string]func(vault.Job) string{"item": func(v vault.Job) string { return string(v.Item) }, "state": func(v vault.Job) string { return string(v.State) }}, true}
	m.artefacts = table[artefact]{m, "artefact", "", map[string]artefact{}, func(v *artefact) *vault.Meta { return &v.meta },
		map[string]func(artefact) string{"site": func(v artefact) string { return v.Where }, "state": func(v artefact) string { return unlessZero(v.Gone, "there", "gone") }}, false}
	m.alerts = table[vault.Alert]{m, "alert", "alert", map[string]vault.Alert{}, func(v *vault.Alert) *vault.Meta { return &v.Meta },
		map[string]func(vault.Alert) string{"state": func(v vault.Alert) string { return unlessZero(v.Cleared, "raised", "cleared") }}, true}
	m.tokens = table[vault.APIToken]{m, "API token", "", map[string]vault.APIToken{}, func(v *vault.APIToken) *vault.Meta { return &v.Meta }, nil, false}
	m.audit = table[auditEntry]{m, "audit entry", "", map[string]auditEntry{}, func(v *auditEntry) *vault.Meta { return &v.meta }, nil, true}
}

func (m *Memory) seed() {
	for _, name := range []string{"home", "dr"} {
		m.sites.put(name, &vault.Site{Name: name, Node: "cs-" + name, Connected: true, Seen: m.now(), Capabilities: &homeward.Capabilities{Kind: "local", BootsFrom: []string{"file"}}})
		for prefix, role := range map[string]pki.Role{"cs": pki.ConfigurationServer, "agent": pki.Agent, "ps": pki.ProcessServer, "mt": pki.MasterTarget} {
			m.AddNode(vault.Node{Name: prefix + "-" + name, Role: role, Site: name})
		}
	}
	for i := range 3 {
		m.AddMachine("home", fmt.Sprintf("vm-%d", i+1), fmt.Sprintf("web%02d", i+1))
	}
	m.putPair(vault.PolicyRequest{Name: "gold", Resync: vault.ResyncAutomatic}, homeward.Policy{}.WithDefaults())
}

// AddNode makes a node that is ready, as if it had enrolled.
func (m *Memory) AddNode(n vault.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n.State == "" {
		n.State = vault.NodeReady
	}
	n.Enrolled, n.Heartbeat, n.Expires = m.now(), m.now(), m.now().AddDate(1, 0, 0)
	m.nodes.put(n.Name, &n)
}

// AddMachine makes a machine that was discovered; its id is site + "/" + native.
func (m *Memory) AddMachine(site, native, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	disk := homeward.DiskID("disk-" + native)
	v := vault.Machine{ID: site + "/" + native, Site: site, Presence: vault.Present, Seen: m.now(), Found: homeward.SiteMachine{
		Ref: homeward.Ref{Native: native}, Power: homeward.PowerOn,
		Machine: homeward.Machine{Name: name, CPUs: 2, MemoryMiB: 2048, Firmware: "efi", OSFamily: "linux", Disks: []homeward.Disk{{ID: disk, Size: 1 << 30}}},
		Disks:   []homeward.Attachment{{Disk: disk, Ref: "file:/disks/" + native}},
	}}
	m.machines.put(v.ID, &v)
}

// RaiseAlert makes an alert, and answers its id.
func (m *Memory) RaiseAlert(a vault.Alert) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	a.ID, a.Raised = m.newID("alert"), m.now()
	m.alerts.put(a.ID, &a)
	return a.ID
}

// Keep bounds how many events are kept.
func (m *Memory) Keep(events int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = events
}

// Restored makes the vault read-only, as after a restore.
func (m *Memory) Restored(unheard ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Epoch++
	m.status.ReadOnly, m.status.Why, m.status.Unheard = true, "it was restored from a backup", unheard
}

func (m *Memory) now() time.Time { return time.Now().UTC().Round(0) }

// newID makes ids that sort in the order they were made.
func (m *Memory) newID(prefix string) string {
	m.counter++
	return fmt.Sprintf("%s-%06d", prefix, m.counter)
}

func (m *Memory) tell(kind, subject, what string) {
	if kind == "" {
		return
	}
	id := int64(1)
	if n := len(m.events); n > 0 {
		id = m.events[n-1].ID + 1
	}
	m.events = append(m.events, vault.Event{ID: id, At: m.now(), Kind: kind, Subject: subject, What: what})
	if extra := len(m.events) - m.kept; extra > 0 {
		m.events = slices.Clone(m.events[extra:])
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// see runs do for whoever has that access.
func (m *Memory) see(ctx context.Context, need vault.Access, do func() error) error {
	if err := ctx.Err(); err != nil {
		return homeward.Wrap(err, "ask vault", "")
	}
	if _, err := permit(ctx, need); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return do()
}

func permit(ctx context.Context, need vault.Access) (vault.Caller, error) {
	caller, err := vault.CallerOf(ctx)
	if err == nil && !caller.Access.Includes(need) {
		err = homeward.Errorf("authorize", homeward.Forbidden, caller.Name, "use a token of access "+string(need),
			"it takes access %q, and the caller has %q", need, caller.Access)
	}
	return caller, err
}

// change runs do for whoever has that access, and enters in the audit log what
// became of it. An action that begins with "!" also happens while the vault is
// read-only.
func (m *Memory) change(ctx context.Context, need vault.Access, action, subject string, do func(vault.Caller) error) error {
	if err := ctx.Err(); err != nil {
		return homeward.Wrap(err, "ask vault", "")
	}
	caller, err := permit(ctx, need)
	m.mu.Lock()
	defer m.mu.Unlock()
	always := action[0] == '!'
	if always {
		action = action[1:]
	}
	if err == nil && m.status.ReadOnly && !always {
		err = homeward.Errorf(action, homeward.Conflict, subject, "run 'homeward vault reconcile'", "the vault is read-only: %s", m.status.Why)
	}
	if err == nil {
		err = do(caller)
	}
	e := auditEntry{AuditEntry: vault.AuditEntry{At: m.now(), Caller: caller.Name, From: caller.From, Action: action, Subject: subject, Outcome: "accepted"}}
	if err != nil {
		e.Outcome, e.Detail = string(homeward.KindOf(err)), err.Error()
	}
	m.counter++
	e.ID = int64(m.counter)
	m.audit.put(fmt.Sprintf("%020d", e.ID), &e)
	return err
}

// listOf is a list that takes an access.
func listOf[T any](ctx context.Context, m *Memory, need vault.Access, t *table[T], q vault.Query) (page vault.Page[T], err error) {
	err = m.see(ctx, need, func() error { page, err = t.list(q); return err })
	return page, err
}

// oneOf is one entry of a list.
func oneOf[T any](ctx context.Context, m *Memory, t *table[T], key string) (v T, err error) {
	err = m.see(ctx, vault.Reader, func() error { v, err = t.get(key); return err })
	return v, err
}

// Watch is part of vault.Oversight.
func (m *Memory) Watch(ctx context.Context, req vault.WatchRequest) iter.Seq2[vault.Event, error] {
	return func(yield func(vault.Event, error) bool) {
		after, first := req.After, req.After == 0
		for {
			var batch []vault.Event
			var changed chan struct{}
			err := m.see(ctx, vault.Reader, func() error {
				changed = m.changed
				if n := len(m.events); first && n > 0 {
					after = m.events[n-1].ID
				}
				first = false
				if len(m.events) > 0 && after < m.events[0].ID-1 {
					return homeward.Errorf("watch", homeward.NotFound, "events", "list what you watch anew, then watch from there", "event %d is not kept any more", after)
				}
				for _, e := range m.events {
					if e.ID > after {
						batch = append(batch, e)
					}
				}
				return nil
			})
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(vault.Event{}, err)
				return
			}
			for _, e := range batch {
				after = e.ID
				if (len(req.Kinds) == 0 || slices.Contains(req.Kinds, e.Kind)) && !yield(e, nil) {
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// World is what the suite works on, reached as the caller says.
func (m *Memory) World(as func(vault.Access) (context.Context, vault.Vault)) World {
	return World{As: as, Site: "home", Target: "dr", Machine: "home/vm-1", Node: "ps-home", Policy: "gold", Network: "isolated"}
}
