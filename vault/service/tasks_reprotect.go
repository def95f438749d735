package service

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
	"github.com/homeward-dr/homeward/vault/readiness"
)

// reprotectPreflight checks the rules, and writes down which nodes will serve the way
// and where its copy lies.
func reprotectPreflight(ctx context.Context, w *work) error {
	if w.item.State == recovery.Synchronizing {
		return nil
	}
	d := w.direction()
	chosen, err := w.placement.preselect(ctx, w.stored, d, w.asked.Input)
	if err != nil {
		return err
	}
	if err := w.placement.check(ctx, "reprotect", chosen); err != nil {
		return err
	}
	if err := bound("reprotect", w.stored, chosen); err != nil {
		return err
	}
	if err := w.stops(ctx, w.stored); err != nil {
		return err
	}
	return w.change(ctx, func(it *vault.Item) {
		*endOf(it, d.From), *endOf(it, d.To) = chosen.from, chosen.to
	})
}

// bound refuses another master target, or another volume of it, once that of the side
// that stands by may have the replica: it would be torn in two.
func bound(op string, it vault.Item, chosen way) error {
	now := *endOf(&it, chosen.to.Site)
	if it.Record == nil || !it.Record.Bound() || now.MasterTarget == chosen.to.MasterTarget && now.Retention == chosen.to.Retention {
		return nil
	}
	return homeward.Errorf(op, homeward.Conflict, fieldMasterTarget, "leave it out, and end what was begun with "+now.MasterTarget+"; if it never comes back, disable the item with force",
		"an earlier attempt may have made the replica at master target %s already", now.MasterTarget)
}

// direction is the one that the reprotect makes.
func (w *work) direction() homeward.Direction {
	return homeward.Direction{From: w.stored.ActiveSite, To: otherSite(w.stored)}
}

// gathering is how long after its start a vault does not take the absence of a node
// for more than a moment's: nodes dial again after 15 s at the latest.
const gathering = 30 * time.Second

// stops refuses to go on while a rule blocks that nobody has overridden.
func (w *work) stops(ctx context.Context, it vault.Item) error {
	for _, site := range []string{it.Original.Site, it.Recovery.Site} {
		if _, err := w.discovery.refresh(ctx, site); err != nil { // the rules say what that means
			w.log.Info("a site's inventory was not read", "site", site, "error", err)
		}
	}
	if err := w.monitor.look(ctx, it); err != nil {
		return err
	}
	facts, err := w.gatherer.facts(ctx, it, w.asked.Input)
	if err != nil {
		return err
	}
	if f, stopped := firstStop(readiness.Check(facts), w.asked.Input.Overrides); stopped {
		kind := homeward.Conflict
		// It may be otherwise in a moment: nodes dial a vault that was started anew one
		// after the other, and then probe each other.
		if f.Verdict == vault.UnknownFact || w.now().Sub(w.opened) < gathering {
			kind = homeward.Unavailable
		}
		return &job.Fault{Code: f.Rule, Causes: []string{f.Title}, Err: homeward.Errorf("check readiness", kind, f.Subject, f.Remedy, "%s: %s", f.Rule, f.Text)}
	}
	return nil
}

// firstStop is the first finding that stands in the way. What is not known stops
// where the rule must pass.
func firstStop(findings []vault.Finding, overrides map[string]string) (vault.Finding, bool) {
	must := map[string]bool{}
	for _, r := range readiness.Rules() {
		must[r.ID] = r.Blocks
	}
	for _, f := range findings {
		stops := f.Verdict == vault.Blocker || f.Verdict == vault.UnknownFact && must[f.Rule]
		if stops && !(overrides[f.Rule] != "" && overridable(f.Rule)) {
			return f, true
		}
	}
	return vault.Finding{}, false
}

// overridable reports whether an operator may pass over a rule.
func overridable(rule string) bool {
	for _, r := range readiness.Rules() {
		if r.ID == rule {
			return r.Ignores
		}
	}
	return false
}

// discoverReplica has the target site's inventory read: whether the old machine is
// there, and off, must be known from now, not from before.
func discoverReplica(ctx context.Context, w *work) error {
	_, err := w.discovery.refresh(ctx, w.direction().To)
	return err
}

// requirements tell what will travel, before anything does.
func requirements(ctx context.Context, w *work) error {
	if w.item.State == recovery.Synchronizing {
		return nil
	}
	predicted, err := w.estimate(ctx)
	if err != nil {
		return err
	}
	return w.run.Record(func(j *vault.Job) { j.Predicted = &predicted })
}

func (w *work) estimate(ctx context.Context) (homeward.Estimate, error) {
	return estimateOf(ctx, w.item, w.asked.Input.Location)
}

func estimateOf(ctx context.Context, it *recovery.Item, location string) (homeward.Estimate, error) {
	if location == vault.AlternateLocation {
		return it.EstimateCopy()
	}
	return it.Estimate(ctx)
}

// protectReplica turns replication around, and leaves the wait for its first point to
// a job of its own.
func protectReplica(ctx context.Context, w *work) error {
	if w.item.State != recovery.Synchronizing {
		if err := w.reverse(ctx); err != nil {
			return err
		}
	}
	return w.await(ctx)
}

func (w *work) reverse(ctx context.Context) error {
	settings, err := w.settingsOf(ctx, w.stored, w.direction().To)
	if err != nil {
		return err
	}
	w.item.Policy = settings.WithDefaults()
	var predicted homeward.Estimate
	if w.asked.Input.Location == vault.AlternateLocation {
		end := endOf(&w.stored, w.direction().To)
		if err := w.artefact(ctx, "disk", end.Site, "disks of item "+string(w.id()), "alternate location", "with-item"); err != nil {
			return err
		}
		predicted, err = w.item.Relocate(ctx, recovery.RelocateRequest{Datastore: end.Datastore})
	} else {
		predicted, err = w.item.Reverse(ctx)
	}
	if err != nil {
		return err
	}
	return w.run.Record(func(j *vault.Job) { j.Predicted = &predicted })
}

// resync makes the map whole again; one that is whole is left alone.
func resync(ctx context.Context, w *work) error {
	if w.item.Leaving != nil {
		return w.arrive(ctx)
	}
	if w.item.State == recovery.Synchronizing {
		return w.run.Skip("its first synchronization goes on")
	}
	_, err := w.item.Resync(ctx)
	return err
}
