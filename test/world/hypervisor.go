package world

import (
	"context"
	"slices"
	"sync"

	"github.com/homeward-dr/homeward"
)

// Hypervisor is the homeward.Site of a Site: its machines are guests, its disks
// are media. There is nothing behind what package recovery does not call.
type Hypervisor struct {
	homeward.Site
	site *Site

	mu       sync.Mutex
	machines map[string]*machine
	stale    []*Guest
}

type machine struct {
	made      homeward.Machine
	guards    []homeward.Guard
	forced    bool // on, by Intrude
	disks     []homeward.Attachment
	guest     *Guest
	uris      []string // that timeline is of
	timeline  *Timeline
	powerLoss bool // since the guest ran
	eager     bool // the guest writes as soon as it is up
}

func newHypervisor(s *Site) *Hypervisor {
	return &Hypervisor{site: s, machines: map[string]*machine{}}
}

func done(key, native string) (homeward.Operation, error) {
	return homeward.Operation{ID: key, Key: key, State: homeward.OperationSucceeded, Result: homeward.Ref{Native: native}}, nil
}

func (h *Hypervisor) find(op string, ref homeward.Ref) (*machine, error) {
	if m := h.machines[ref.Native]; m != nil {
		return m, nil
	}
	return nil, homeward.Errorf(op, homeward.NotFound, "machine "+ref.Native, "list the site's machines", "no such machine")
}

// Create defines a machine. Keys are not remembered: one that exists is defined anew.
func (h *Hypervisor) Create(_ context.Context, key string, m homeward.Machine, disks []homeward.Attachment) (homeward.Operation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := string(m.Item)
	if h.machines[name] == nil {
		h.machines[name] = &machine{eager: true}
	}
	h.machines[name].made = m
	h.machines[name].disks = slices.Clone(disks)
	return done(key, name)
}

// Delete forgets a machine that is off; its disks stay.
func (h *Hypervisor) Delete(_ context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.machines[ref.Native]; m != nil && m.guest != nil {
		return homeward.Operation{}, homeward.Errorf("delete machine", homeward.InUse, ref.Native, "power it off first", "it runs")
	}
	delete(h.machines, ref.Native)
	return done(key, ref.Native)
}

// Machine describes one. A guest that crashed is off.
func (h *Hypervisor) Machine(_ context.Context, ref homeward.Ref) (homeward.SiteMachine, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, err := h.find("describe machine", ref)
	if err != nil {
		return homeward.SiteMachine{}, err
	}
	power := homeward.PowerOff
	if m.forced || m.guest != nil && !m.guest.Ended() {
		power = homeward.PowerOn
	}
	return homeward.SiteMachine{Ref: homeward.Ref{Native: ref.Native}, Machine: m.made, Disks: slices.Clone(m.disks),
		Power: power, Guards: slices.Clone(m.guards)}, nil
}

// Attach adds a disk; Detach takes one away.
func (h *Hypervisor) Attach(_ context.Context, key string, ref homeward.Ref, a homeward.Attachment) (homeward.Operation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, err := h.find("attach disk", ref)
	if err != nil {
		return homeward.Operation{}, err
	}
	m.disks = append(m.disks, a)
	slices.SortFunc(m.disks, func(a, b homeward.Attachment) int { return a.Slot - b.Slot })
	return done(key, ref.Native)
}

// Detach takes a disk away.
func (h *Hypervisor) Detach(_ context.Context, key string, ref homeward.Ref, d homeward.DiskID) (homeward.Operation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, err := h.find("detach disk", ref)
	if err != nil {
		return homeward.Operation{}, err
	}
	m.disks = slices.DeleteFunc(m.disks, func(a homeward.Attachment) bool { return a.Disk == d })
	return done(key, ref.Native)
}

// PowerOn boots a guest, unless one runs on these disks, or a guard keeps it off.
func (h *Hypervisor) PowerOn(ctx context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, err := h.find("power on", ref)
	if err == nil && len(m.guards) > 0 {
		err = homeward.Errorf("power on", homeward.InUse, "machine "+ref.Native, "release the guard first", "guarded by %s", m.guards[0].Owner)
	}
	if err != nil {
		return homeward.Operation{}, err
	}
	var uris []string
	for _, d := range m.disks {
		uris = append(uris, d.Ref)
	}
	same := slices.Equal(uris, m.uris)
	if m.guest != nil && m.guest.Err() == nil && same {
		return done(key, ref.Native)
	}
	if m.guest != nil {
		m.guest.Stop()
		m.guest = nil
	}
	var before *Timeline
	if same {
		before = m.timeline
	}
	g := &Guest{uris: uris, agent: h.agent, writes: &h.site.world.writes, rng: h.site.world.newRand()}
	disks, err := bootGuest(ctx, g, &h.site.world.Clock, before, m.powerLoss)
	if err != nil {
		return homeward.Operation{}, err
	}
	m.guest, m.timeline, m.uris, m.powerLoss = g, g.Timeline, uris, false
	h.site.world.remember(uris[0], g.Timeline)
	g.start(disks)
	if m.eager {
		g.Write()
	}
	return done(key, ref.Native)
}

// agent is the process that serves guests; while there is none, a dead one.
func (h *Hypervisor) agent() *Process {
	if p := h.site.Agent.Process(); p != nil {
		return p
	}
	return &Process{name: "nobody", dead: true, died: closed()}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// PowerOff stops a guest; gracefully it finishes its writes first.
func (h *Hypervisor) PowerOff(ctx context.Context, key string, ref homeward.Ref, how homeward.Stop) (homeward.Operation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, err := h.find("power off", ref)
	if err != nil {
		return homeward.Operation{}, err
	}
	m.forced = false
	if m.guest != nil {
		if how.Graceful && m.guest.Err() == nil {
			if err := m.guest.shutDown(ctx); err != nil && m.guest.Err() == nil {
				return homeward.Operation{}, err
			}
		}
		m.guest.Stop()
		m.guest = nil
	}
	return done(key, ref.Native)
}

// Operation never has to be asked for: all of them are done at once.
func (h *Hypervisor) Operation(_ context.Context, id string) (homeward.Operation, error) {
	return done(id, "")
}

// Guest is the one of a machine that runs here, nil when none does.
func (h *Hypervisor) Guest(item homeward.ItemID) *Guest {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.machines[string(item)]; m != nil {
		return m.guest
	}
	return nil
}

// Timeline is the life of a machine that runs, or ran last, here.
func (h *Hypervisor) Timeline(item homeward.ItemID) *Timeline {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.machines[string(item)]; m != nil {
		return m.timeline
	}
	return nil
}

// CheckEnd holds what the disks of a machine held at the end against the life that
// ran, or ran last, here; after a power loss what was not flushed may be missing.
func (h *Hypervisor) CheckEnd(item homeward.ItemID, contents [][]byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.machines[string(item)]
	if m == nil || m.timeline == nil {
		return nil
	}
	if m.powerLoss {
		return m.timeline.settle(contents, true)
	}
	end := h.site.world.Clock.Tick()
	return Between(end, end, m.timeline.Observe(contents))
}

// Reboot starts a guest that crashed, or lost its host, on the disks it had.
func (h *Hypervisor) Reboot(ctx context.Context, item homeward.ItemID) error {
	_, err := h.PowerOn(ctx, "reboot", homeward.Ref{Native: string(item)})
	return err
}

// Forsake leaves a guest paused and lets nobody know that it is there: the host
// cannot be reached, but it is not dead.
func (h *Hypervisor) Forsake(ctx context.Context, item homeward.ItemID) (*Guest, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.machines[string(item)]
	g := m.guest
	if g == nil {
		return nil, nil
	}
	m.guest = nil
	h.stale = append(h.stale, g)
	return g, g.Pause(ctx)
}

// Crash stops a guest amid its writes.
func (h *Hypervisor) Crash(item homeward.ItemID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.machines[string(item)]; m != nil && m.guest != nil {
		m.guest.Stop()
		m.guest = nil
	}
}

func (h *Hypervisor) losePower() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.machines {
		if m.guest != nil {
			m.guest.Stop()
			m.guest = nil
		}
		m.powerLoss = true
	}
	h.dropStale()
}

func (h *Hypervisor) dropStale() {
	for _, g := range h.stale {
		g.Stop()
	}
	h.stale = nil
}

func (h *Hypervisor) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.machines {
		if m.guest != nil {
			m.guest.Stop()
		}
	}
	h.dropStale()
}
