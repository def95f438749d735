package service

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
	"github.com/homeward-dr/homeward/vault/readiness"
)

// leaving is how replicas leave a master target.
type leaving struct {
	To        string `json:"to,omitempty"`
	SameDisks bool   `json:"same_disks,omitempty"`
	OldIsOff  bool   `json:"old_is_off,omitempty"`
	Datastore string `json:"datastore,omitempty"`
	Retention string `json:"retention_volume,omitempty"`
}

func (l leaving) request() recovery.ReassociateRequest {
	return recovery.ReassociateRequest{SameDisks: l.SameDisks, Gone: l.OldIsOff, Datastore: l.Datastore}
}

// The tasks of the job that leads a replica to another master target.
const (
	reassociatePreflight = "ReassociatePreflightChecksTask"
	reassociateReplica   = "ReassociateReplicaTask"
	awaitReassociated    = "AwaitReassociatedReplicaTask"
	removeLeftReplica    = "RemoveLeftReplicaTask"
)

// leadReplica begins the job of one item. One that is busy stays, and the others go.
func (s *workshop) leadReplica(ctx context.Context, run *job.Run, id homeward.ItemID, m move) error {
	how := m.How
	how.To = m.To
	input, err := assignment{Input: vault.Input{MasterTarget: m.To}, Leaving: &how}.encode()
	if err != nil {
		return err
	}
	_, err = run.Begin(ctx, vault.Job{Scenario: scenarioReplica, Title: "Lead the replica to " + m.To, Item: id, Input: input})
	if homeward.KindOf(err) == homeward.Conflict {
		return run.Skip("reassociate it once more when it is free: " + err.Error())
	}
	return err
}

// leadingReplica is that job. The old replica is removed when the new one has a point.
func (s *workshop) leadingReplica() job.Definition {
	return job.Definition{Scenario: scenarioReplica, Title: "Lead a replica to another master target", Tasks: func(_ context.Context, j vault.Job) ([]job.TaskDef, error) {
		asked, err := assignmentOf(j)
		if err != nil {
			return nil, err
		}
		if asked.Leaving == nil {
			return nil, homeward.Errorf("plan job", homeward.Corrupt, "job "+j.ID, "begin anew", "it does not say where to")
		}
		return []job.TaskDef{
			{Name: reassociatePreflight, Title: "Prerequisite check", Do: s.on(checkReassociation)},
			{Name: reassociateReplica, Title: "Leading the replica to " + asked.Leaving.To, Do: s.on(reassociate)},
			{Name: awaitReassociated, Title: "Synchronizing until the first recovery point stands there", Do: s.patiently(awaitReassociation), Tries: untilCancelled},
			{Name: removeLeftReplica, Title: "Removing the old replica", Do: s.on(removeLeft)},
		}, nil
	}}
}

// replicaTasks are the tasks for a plan, with the disks named that go.
func replicaTasks(to string, disks []string) (tasks []vault.Task) {
	old := "Removing the old replica"
	if len(disks) > 0 {
		old += ": disks " + strings.Join(disks, ", ")
	}
	for _, t := range [][2]string{{reassociatePreflight, "Prerequisite check"}, {reassociateReplica, "Leading the replica to " + to},
		{awaitReassociated, "Synchronizing until the first recovery point stands there"}, {removeLeftReplica, old}} {
		tasks = append(tasks, vault.Task{Name: t[0], Title: t[1], State: vault.TaskNotStarted})
	}
	return tasks
}

// planReplica tells what leading one replica would take.
func (s *recoveries) planReplica(ctx context.Context, id homeward.ItemID, m move) (vault.Plan, error) {
	p := vault.Plan{Item: id, Action: planned, Allowed: true}
	stored, err := s.store.Items.Get(ctx, string(id))
	if err != nil {
		return p, err
	}
	it, err := s.look(ctx, stored)
	if err != nil {
		return p, err
	}
	var disks []string
	if !m.How.SameDisks {
		disks = it.OwnCopies()
	}
	p.Tasks = replicaTasks(m.To, disks)
	to, err := s.standbyWith(ctx, stored, m.To, m.How.Retention)
	if err == nil {
		err = it.MayReassociate(ctx, to, m.How.request())
	}
	if stored.Job != "" && err == nil {
		err = homeward.Errorf("reassociate", homeward.Conflict, "item "+string(id), "wait until it has ended, or cancel it", "job %s works on the item", stored.Job)
	}
	if err != nil {
		p.Allowed, p.Why = false, err.Error()
	}
	e, err := it.EstimateReassociation(ctx, m.How.request())
	if err != nil {
		p.Allowed, p.Why = false, err.Error()
		return p, nil //nolint:nilerr // it is what the plan says
	}
	if rate := s.rateTo(ctx, stored, m.To); e.Seconds == 0 && rate > 0 {
		e.Seconds = float64(e.WireBytes) / rate
	}
	p.Estimate, p.Losses = &e, e.Losses
	return p, nil
}

// rateTo is the throughput to a master target of the side that stands by, as probed; else
// that to the one that has the replica.
func (s *workshop) rateTo(ctx context.Context, it vault.Item, target string) float64 {
	n, err := s.node(ctx, endOf(&it, it.ActiveSite).ProcessServer)
	if err != nil {
		return 0
	}
	if r := probeOf(n, target).V.Rate; r > 0 {
		return r
	}
	return probeOf(n, endOf(&it, otherSite(it)).MasterTarget).V.Rate
}

// standbyWith is the side that stands by, with another master target.
func (c *core) standbyWith(ctx context.Context, it vault.Item, target, retention string) (*recovery.Side, error) {
	site := otherSite(it)
	end := endOf(&it, site)
	end.MasterTarget, end.Retention = target, retention
	original, recover, err := c.sidesOf(ctx, it)
	if site == it.Original.Site {
		return original, err
	}
	return recover, err
}

// mayServe demands of a master target what an enable would: it answers (R34), and has
// the retention volume, an eligible one (R102 to R108).
func (s *workshop) mayServe(ctx context.Context, name, retention string) error {
	row, err := s.node(ctx, name)
	if err != nil {
		return err
	}
	n := s.registry.Live(row)
	if n.State != vault.NodeReady {
		return homeward.Errorf("reassociate", homeward.Conflict, "node "+name, "start it, or name another one", "it is %s (R34)", n.State)
	}
	if retention != "" {
		return s.placement.checkRetention(ctx, "reassociate", vault.End{MasterTarget: name, Retention: retention})
	}
	for _, v := range n.Health.Volumes {
		if ok, rule, why := readiness.VolumeEligibility(v); v.Default && !ok {
			return homeward.Errorf("reassociate", homeward.Conflict, fieldRetention, "choose another one with --retention", "volume %s of %s is not eligible: %s (%s)", v.Path, name, why, rule)
		}
	}
	return nil
}

// checkReassociation finds what stands in the way before anything is changed.
func checkReassociation(ctx context.Context, w *work) error {
	how, site := w.asked.Leaving, otherSite(w.stored)
	if w.item.Leaving != nil && w.item.Standby.TargetName == how.To {
		return nil // it has come there
	}
	if err := w.placement.checkNode(ctx, "reassociate", "to", how.To, pki.MasterTarget, site); err != nil {
		return err
	}
	if err := w.mayServe(ctx, how.To, how.Retention); err != nil {
		return err
	}
	from, err := w.node(ctx, endOf(&w.stored, w.stored.ActiveSite).ProcessServer)
	if err != nil {
		return err
	}
	if p := probeOf(from, how.To); !p.V.At.IsZero() && !p.V.Reachable {
		return homeward.Errorf("reassociate", homeward.Unavailable, "node "+how.To, "see what is between them, then retry", "process server %s does not reach it: %s (R16)", from.Name, p.V.Why)
	}
	e, err := w.item.EstimateReassociation(ctx, how.request())
	if err != nil {
		return err
	}
	return w.run.Record(func(j *vault.Job) { j.Predicted = &e })
}

// reassociate leads what the item's agent ships to the other master target.
func reassociate(ctx context.Context, w *work) error {
	how := w.asked.Leaving
	if !how.SameDisks {
		if err := w.artefact(ctx, "disk", otherSite(w.stored), disksAt(w.id(), how.To), "replica at master target "+how.To, "with-item"); err != nil {
			return err
		}
	}
	to, err := w.standbyWith(ctx, w.stored, how.To, how.Retention)
	if err != nil {
		return err
	}
	_, err = w.item.Reassociate(ctx, to, how.request())
	return err
}

// disksAt is what the ledger calls the disks that a reassociation had made.
func disksAt(id homeward.ItemID, target string) string {
	return "disks of item " + string(id) + " at " + target
}

func awaitReassociation(ctx context.Context, w *work) error {
	if w.item.Leaving == nil {
		return nil
	}
	return w.item.AwaitReassociated(ctx)
}

// arrive goes on with a replica that is on its way to another master target, whoever
// began it.
func (w *work) arrive(ctx context.Context) error {
	l := w.item.Leaving
	to := w.item.To
	if _, err := w.item.Reassociate(ctx, to, recovery.ReassociateRequest{SameDisks: l.SameDisks}); err != nil {
		return err
	}
	return w.item.AwaitReassociated(ctx)
}

// removeLeft removes what master targets that were left still have. One that is away is
// told when it is back, by the keeper.
func removeLeft(ctx context.Context, w *work) error {
	if len(w.item.Left) == 0 {
		return w.run.Skip("nothing is left there")
	}
	err := w.removeLeft(ctx, w.item)
	if homeward.Retryable(err) && ctx.Err() == nil {
		return w.run.Skip("it is done when the master target is back: " + err.Error())
	}
	return err
}

// removeLeft has master targets forget an item that was led away from them. One that is
// revoked never comes back: its disks go without it.
func (s *workshop) removeLeft(ctx context.Context, it *recovery.Item) error {
	for _, l := range slices.Clone(it.Left) {
		var role homeward.MasterTarget
		n, err := s.store.Nodes.Get(ctx, l.Target)
		switch {
		case err == nil && n.State != vault.NodeRevoked:
			role = s.masterTarget(l.Target)
		case err != nil && homeward.KindOf(err) != homeward.NotFound:
			return err
		}
		if err := it.RemoveLeft(ctx, l, role); err != nil {
			return err
		}
		if err := s.struck(ctx, it, l); err != nil {
			return err
		}
	}
	return nil
}

// struck says in the ledger that disks are gone.
func (s *workshop) struck(ctx context.Context, it *recovery.Item, l recovery.Left) error {
	if len(l.Disks) == 0 {
		return nil
	}
	subjects := []string{disksAt(it.ID(), l.Target)}
	if l.First {
		for _, d := range it.Machine.Disks {
			subjects = append(subjects, string(replicaName(it.ID(), d.ID)))
		}
	}
	for _, subject := range subjects {
		_, err := s.store.Artefacts.Change(ctx, artefactID(it.ID(), "disk", l.Side, subject), func(a *vault.Artefact) error {
			a.Gone = s.now().UTC()
			return nil
		})
		if err != nil && homeward.KindOf(err) != homeward.NotFound {
			return err
		}
	}
	return nil
}

// fromLeft is who raises what is said of replicas at master targets that were left.
const fromLeft = "left"

// clear removes what master targets that were left have of an item, when they are back.
func (k *keeper) clear(ctx context.Context, stored vault.Item) error {
	subject := "item " + string(stored.ID)
	if len(stored.Record.Left) == 0 || stored.Record.Leaving != nil {
		return k.alerts.settle(ctx, fromLeft, subject)
	}
	it, err := k.load(ctx, stored)
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, time.Minute)
	why := k.removeLeft(asking, it)
	cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if why == nil || len(it.Left) == 0 {
		return k.alerts.settle(ctx, fromLeft, subject)
	}
	return k.alerts.settle(ctx, fromLeft, subject, replicaBehind(it.Left[0], why)) // the others in turn
}

func replicaBehind(l recovery.Left, why error) vault.Alert {
	what := "points"
	if len(l.Disks) > 0 {
		what += " and disks " + strings.Join(l.Disks, ", ")
	}
	return vault.Alert{Code: "replica-left-behind", Severity: vault.SeverityWarning,
		Text:   fmt.Sprintf("master target %s may still have %s of the item, whose replica was led to another one: %v", l.Target, what, why),
		Remedy: "start it: it is told, and what it has is removed; if it never comes back, revoke it: 'homeward node revoke " + l.Target + "', and its disks are removed without it"}
}
