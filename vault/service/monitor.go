package service

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// seen is what is known of an item at the moment.
type seen struct {
	heard
	replication vault.Replication
}

// monitor asks the nodes of every item how replication stands. What they say is
// kept in memory alone: after a restart it is asked anew, and not known until then.
type monitor struct {
	*core
	alerts *alerts

	mu   sync.RWMutex
	live map[homeward.ItemID]seen
}

const (
	monitorTimeout = 5 * time.Second // of all calls for one item
	monitorAtOnce  = 16              // items that are asked at the same time
	monitorPerSec  = 150             // items a second at most: three calls each
)

// run asks about all items in rounds, spread evenly, until ctx ends.
func (m *monitor) run(ctx context.Context) {
	every(ctx, m.rhythm.Monitor, m.trouble("watch items"), func(ctx context.Context) error {
		items, err := m.running(ctx)
		if err != nil {
			return err
		}
		m.forget(items)
		pace := time.NewTicker(time.Second / monitorPerSec)
		defer pace.Stop()
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(monitorAtOnce)
		for _, it := range items {
			group.Go(func() error {
				if err := m.look(ctx, it); err != nil && ctx.Err() == nil { // the others are watched all the same
					m.log.Warn("an item could not be watched; it is tried again", "item", it.ID, "error", err)
				}
				return nil
			})
			select {
			case <-pace.C:
			case <-ctx.Done():
				return group.Wait()
			}
		}
		return group.Wait()
	})
}

// running are the items that have begun to replicate.
func (m *monitor) running(ctx context.Context) (items []vault.Item, err error) {
	for it, err := range m.store.Items.All(ctx, vault.Query{}) {
		if err != nil {
			return nil, err
		}
		if it.Record != nil && it.State != vault.Migrated {
			it.Record.List.Differ = nil // nothing of the lists is looked at here
			items = append(items, it)
		}
	}
	return items, nil
}

func (m *monitor) forget(items []vault.Item) {
	there := map[homeward.ItemID]bool{}
	for _, it := range items {
		there[it.ID] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.live {
		if !there[id] {
			delete(m.live, id)
		}
	}
}

// replicates reports whether points ought to come; while an item is being disabled, until
// that has begun.
func replicates(it vault.Item) bool {
	s := it.State
	if s == vault.Disabling && it.Record != nil {
		s = stateOf(it.Record.State)
	}
	return s == vault.Protected || s == vault.Synchronizing
}

func (m *monitor) look(ctx context.Context, it vault.Item) error {
	asking, cancel := context.WithTimeout(ctx, monitorTimeout)
	heard := m.ask(asking, it)
	cancel()
	skew := m.skew(ctx, it, it.ActiveSite)
	m.mu.Lock()
	if m.live == nil {
		m.live = map[homeward.ItemID]seen{}
	}
	r := heard.replication(m.live[it.ID].replication, replicates(it), m.now(), skew)
	m.live[it.ID] = seen{heard, r}
	m.mu.Unlock()
	threshold, err := m.settingsOf(ctx, it, it.Direction.To)
	if err != nil {
		return err
	}
	return m.settle(ctx, it, heard, r, threshold.RPOThreshold)
}

// skew is how far the clock of the agent at a site, by which the points that it cuts are
// told, is ahead of the vault's.
func (m *monitor) skew(ctx context.Context, it vault.Item, site string) time.Duration {
	n, err := m.node(ctx, endOf(&it, site).Agent)
	if err != nil || n.Heartbeat.IsZero() {
		return 0 // not known: nobody has measured it
	}
	return n.Skew
}

// settle raises and clears what follows from what was heard. Who could not be asked is
// not well for that: the alerts that follow from what it said stay as they were.
func (m *monitor) settle(ctx context.Context, it vault.Item, h heard, r vault.Replication, threshold time.Duration) error {
	subject := "item " + string(it.ID)
	if !r.Newest.IsZero() || it.State != vault.Protected || threshold <= 0 {
		if err := m.alerts.settle(ctx, fromMonitor, subject, append(late(it, r, threshold, m.now()), unattended(it)...)...); err != nil {
			return err
		}
	}
	if answered(h.agent) {
		if err := m.alerts.settle(ctx, fromAgent, subject, append(alarms(h.capture.Alarms), h.torn(it)...)...); err != nil {
			return err
		}
	}
	if !answered(h.target) {
		return nil
	}
	if answered(h.agent) {
		if err := m.tellOtherwise(ctx, it, h); err != nil {
			return err
		}
	}
	said := alarms(h.replica.Alarms)
	if h.replica.Fault != "" {
		said = append(said, vault.Alert{Code: "replica-fault", Severity: vault.SeverityCritical, Text: h.replica.Fault, Remedy: h.replica.Remedy})
	}
	return m.alerts.settle(ctx, fromTarget, subject, said...)
}

// answered reports whether a node said something, be it that it knows nothing of the
// item.
func answered(err error) bool { return err == nil || homeward.KindOf(err) == homeward.NotFound }

func alarms(all []homeward.Alarm) (alerts []vault.Alert) {
	for _, a := range all {
		alerts = append(alerts, vault.Alert{Code: a.Code, Severity: vault.SeverityWarning, Text: a.Text, Remedy: a.Remedy})
	}
	return alerts
}

// heard is what the nodes of an item say; an error where one could not be asked.
type heard struct {
	asked   bool // false: nobody was asked yet
	capture homeward.CaptureReport
	route   homeward.RouteReport
	replica homeward.ReplicaReport

	agent, process, target error
}

func (m *monitor) ask(ctx context.Context, it vault.Item) (h heard) {
	h.asked = true
	from, to := endOf(&it, it.ActiveSite), endOf(&it, otherSite(it))
	req := homeward.ItemRequest{Item: it.ID}
	h.capture, h.agent = m.agent(from.Agent).Report(ctx, req)
	if !replicates(it) { // the machine runs on a view of the master target beside it
		h.replica, h.target = m.masterTarget(from.MasterTarget).Report(ctx, req)
		return h
	}
	h.route, h.process = m.processServer(from.ProcessServer).Report(ctx, req)
	h.replica, h.target = m.masterTarget(to.MasterTarget).Report(ctx, req)
	return h
}

// replication sums up what was heard; what could not be asked stays as it was last
// seen, with the reason. Points are told by the clock of the agent that cut them, which
// is ahead of the vault's by skew; Newest, and the age that follows, are by the vault's.
func (h heard) replication(was vault.Replication, replicates bool, now time.Time, skew time.Duration) vault.Replication {
	r := was
	r.RPO, r.Why = -1, ""
	if h.agent == nil {
		r.Phase, r.Progress, r.As, r.LagBytes = h.capture.Phase, h.capture.Progress, now.UTC(), 0
		for _, d := range h.capture.Disks {
			r.LagBytes += d.DirtyBytes
		}
	} else {
		r.Why = "the agent cannot be asked: " + h.agent.Error()
	}
	if !replicates {
		r.SpoolBytes, r.Weight, r.Newest = 0, 0, time.Time{}
		if h.target == nil {
			r.Points, r.Retention = h.replica.Points, h.replica.RetentionBytes
		}
		return r
	}
	if h.process == nil {
		r.SpoolBytes, r.Weight = h.route.SpoolBytes, cmp.Or(h.route.Weight, homeward.DefaultWeight)
		if h.route.TargetError != "" {
			r.Why = h.route.TargetError
		}
	} else if r.Why == "" {
		r.Why = "the process server cannot be asked: " + h.process.Error()
	}
	switch {
	case h.target == nil:
		r.Points, r.Retention, r.As = h.replica.Points, h.replica.RetentionBytes, now.UTC()
		r.Newest = byVault(h.replica.NewestPoint.At, skew)
		if h.replica.Fault != "" {
			r.Why = h.replica.Fault
		}
	case h.agent == nil && byVault(h.capture.AppliedAt, skew).After(r.Newest):
		r.Newest = byVault(h.capture.AppliedAt, skew)
	case r.Why == "":
		r.Why = "the master target cannot be asked: " + h.target.Error()
	}
	if (h.target == nil || h.agent == nil) && !r.Newest.IsZero() {
		r.RPO = max(0, now.Sub(r.Newest).Seconds())
	}
	return r
}

// unattended tells of an item that nobody waits for any more: the job that did has failed
// or was cancelled, and it would synchronize for ever.
func unattended(it vault.Item) []vault.Alert {
	if it.State != vault.Synchronizing || it.Job != "" {
		return nil
	}
	return []vault.Alert{{Code: "synchronization-unattended", Severity: vault.SeverityCritical,
		Text:   "it is not protected: the job that waited for its first recovery point did not succeed",
		Remedy: "see why with 'homeward job list --item " + string(it.ID) + "', then 'homeward item resync " + string(it.ID) + "'"}}
}

// torn tells of an agent that does not know all that was written, as after a power loss:
// until it is compared no recovery point is made.
func (h heard) torn(it vault.Item) []vault.Alert {
	if it.State != vault.Protected || it.Job != "" || h.agent != nil || h.capture.Complete {
		return nil
	}
	return []vault.Alert{{Code: "resync-needed", Severity: vault.SeverityCritical,
		Text:   "its agent does not know exactly what was written: no recovery point is made until that is compared",
		Remedy: "the vault resynchronizes it by itself when the policy's resync rule says so; at once: 'homeward item resync " + string(it.ID) + "'"}}
}

// byVault is an agent's time by the vault's clock; zero stays zero.
func byVault(at time.Time, skew time.Duration) time.Time {
	if at.IsZero() {
		return at
	}
	return at.Add(-skew)
}

// late tells of an item whose newest point is too old. One that can nowhere be asked
// about is alarmed by what is known of it last: the age of its newest point only grows.
func late(it vault.Item, r vault.Replication, threshold time.Duration, now time.Time) []vault.Alert {
	if it.State != vault.Protected || threshold <= 0 || r.Newest.IsZero() || now.Sub(r.Newest) <= threshold {
		return nil
	}
	a := vault.Alert{Code: "rpo-exceeded", Severity: vault.SeverityCritical,
		Text:   fmt.Sprintf("the newest recovery point is from %s, older than the policy's %v", r.Newest.UTC().Format(time.RFC3339), threshold),
		Remedy: "see why with 'homeward item show " + string(it.ID) + "': a node away, a link too slow, or a fault"}
	if it.Replication.Paused {
		a.Severity, a.Remedy = vault.SeverityWarning, "its replication is paused: resume it"
	}
	return []vault.Alert{a}
}

func (m *monitor) last(id homeward.ItemID) (seen, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s, known := m.live[id]
	return s, known
}

// overlay puts what was last heard over a stored item.
func (m *monitor) overlay(it *vault.Item) {
	now, known := m.last(it.ID)
	r := now.replication
	paused, priority := it.Replication.Paused, it.Replication.Priority
	if !known {
		r = vault.Replication{RPO: -1, Why: "its nodes have not been asked since the vault was started"}
	}
	r.Paused, r.Priority = paused, priority
	it.Replication = r
}
