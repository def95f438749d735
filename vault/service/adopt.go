package service

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

// adoptTimeout bounds what is asked of both sides, to adopt what they say.
const adoptTimeout = 30 * time.Second

// adoption finds the true record of an item from what the nodes and sites of both its
// ends say now. The item that it answers names the nodes that have it. It changes
// nothing, here or there.
func (s *workshop) adoption(ctx context.Context, it vault.Item, force bool) (vault.Item, recovery.Adoption, error) {
	if it.Record == nil {
		return it, recovery.Adoption{}, homeward.Errorf("adopt", homeward.Corrupt, "item "+string(it.ID), "restore the vault from a backup", "it has no record")
	}
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	sights := map[string]recovery.Sight{}
	for _, end := range []*vault.End{&it.Original, &it.Recovery} {
		sight, err := s.sight(ctx, it, end)
		if err != nil {
			return it, recovery.Adoption{}, err
		}
		sights[end.Site] = sight
	}
	found, err := recovery.Adopt(*it.Record, sights, s.registry.MaxGeneration(it.ID), force)
	return it, found, err
}

// sight asks one end: its nodes, or the site's others where those have it now, and the
// site itself.
func (s *workshop) sight(ctx context.Context, it vault.Item, end *vault.End) (recovery.Sight, error) {
	sight := recovery.Sight{Disks: end.Disks}
	req, newest := homeward.ItemRequest{Item: it.ID}, s.registry.MaxGeneration(it.ID)
	var err error
	end.Agent, sight.Agent, err = seek(ctx, s, pki.Agent, end.Site, end.Agent, newest, func(ctx context.Context, name string) (homeward.CaptureReport, inForce, error) {
		r, err := s.agent(name).Report(ctx, req)
		return r, inForce{r.Generation, r.Base.Generation}, err
	})
	if err == nil {
		end.ProcessServer, sight.Process, err = seek(ctx, s, pki.ProcessServer, end.Site, end.ProcessServer, newest, func(ctx context.Context, name string) (homeward.RouteReport, inForce, error) {
			r, err := s.processServer(name).Report(ctx, req)
			return r, inForce{r.Generation, r.Generation}, err
		})
	}
	if err == nil {
		was := end.MasterTarget
		end.MasterTarget, sight.Target, err = seek(ctx, s, pki.MasterTarget, end.Site, end.MasterTarget, newest, func(ctx context.Context, name string) (homeward.ReplicaReport, inForce, error) {
			r, err := s.masterTarget(name).Report(ctx, req)
			return r, inForce{r.Generation, r.Base.Generation}, err
		})
		if end.MasterTarget != was {
			end.Retention = sight.Target.V.Retention
		}
	}
	sight.Machine.V, sight.Machine.Err = s.machineSeen(ctx, it, end.Site)
	return sight, err
}

// inForce is what a node acts under: of two that know one generation, who has a leg of it
// is the one. The other was told of it when it was left.
type inForce struct{ fence, leg homeward.Generation }

func (a inForce) above(b inForce) bool {
	return a.fence.Number > b.fence.Number || a.fence == b.fence && a.leg.Number > b.leg.Number
}

// seek asks the node that is recorded for an end, and the ready ones of its role at the
// site: another one may serve the item now. Who has the newest generation is the one;
// while the recorded one cannot be asked, only who has the newest that anybody knows of.
func seek[T any](ctx context.Context, s *workshop, role pki.Role, site, name string, newest homeward.Generation,
	ask func(context.Context, string) (T, inForce, error)) (string, recovery.Told[T], error) {
	told := recovery.Told[T]{Err: homeward.Errorf("ask "+string(role), homeward.NotFound, "site "+site, "", "none is recorded for the item")}
	var has inForce
	if name != "" {
		told.V, has, told.Err = ask(ctx, name)
	}
	nodes, err := s.placement.nodesOf(ctx, role, site)
	if err != nil {
		return name, told, err
	}
	recorded := name
	for _, n := range nodes {
		if n.Name == recorded || n.State != vault.NodeReady {
			continue
		}
		v, g, err := ask(ctx, n.Name)
		if err != nil || told.Err == nil && !g.above(has) || !answered(told.Err) && g.fence != newest {
			continue
		}
		name, told, has = n.Name, recovery.Told[T]{V: v}, g
	}
	return name, told, nil
}

// machineSeen is the item's machine as its site has it now: by its name, else by the item
// that it is made for.
func (s *workshop) machineSeen(ctx context.Context, it vault.Item, name string) (m homeward.SiteMachine, err error) {
	unknown := func(err error) error {
		return homeward.Errorf("ask site", homeward.Unavailable, "site "+name, homeward.RemedyOf(err), "%w", err)
	}
	site, err := s.roles.Site(name)
	if err != nil {
		return m, unknown(err)
	}
	if ref, known := it.Record.Refs[name]; known {
		if m, err = site.Machine(ctx, ref); homeward.KindOf(err) != homeward.NotFound {
			return m, err
		}
	}
	all, err := site.Machines(ctx)
	if err != nil {
		return m, unknown(err)
	}
	found := 0
	for _, one := range all {
		if one.Machine.Item == it.ID {
			m, found = one, found+1
		}
	}
	switch found {
	case 1:
		return m, nil
	case 0:
		return m, homeward.Errorf("find machine", homeward.NotFound, "site "+name, "", "it has no machine of item %s", it.ID)
	}
	return m, homeward.Errorf("find machine", homeward.Conflict, "site "+name, "remove those that are not the item's", "%d machines are of item %s", found, it.ID)
}

// adoptPreflight finds out whether there is one truth, before anything is written.
func adoptPreflight(ctx context.Context, w *work) error {
	_, _, err := w.adoption(ctx, w.stored, w.asked.Input.Force)
	return err
}

// adopt makes the state found the recorded one. Nothing is asked of any node: its guards
// are the item's, whichever vault set them, and it obeys the generation in force. The wait
// for a first recovery point is left to a job of its own.
func adopt(ctx context.Context, w *work) error {
	now, found, err := w.adoption(ctx, w.stored, w.asked.Input.Force)
	if err != nil {
		return err
	}
	for i, sentence := range found.Evidence {
		w.run.Child(vault.Task{Name: fmt.Sprintf("evidence %d", i+1), Title: sentence, State: vault.TaskSucceeded})
	}
	err = w.change(ctx, func(it *vault.Item) {
		it.Original, it.Recovery = now.Original, now.Recovery
		follow(it, found.Record)
		if found.Record.Test == nil {
			it.Test = vault.Test{State: vault.TestNone, Succeeded: it.Test.Succeeded}
		} else if it.Test.State == vault.TestNone {
			it.Test.State, it.Test.Opened = vault.TestOpen, found.Record.Test.Opened
		}
	})
	if err != nil {
		return err
	}
	told, err := json.Marshal(found)
	if err != nil {
		return homeward.Wrap(err, "tell what was adopted", "item "+string(w.id()))
	}
	if err := w.run.Record(func(j *vault.Job) { j.Took = told }); err != nil {
		return err
	}
	if _, err := w.alerts.learn(ctx, w.stored, w.registry.MaxGeneration(w.id())); err != nil {
		return err
	}
	if found.Record.State != recovery.Synchronizing {
		return nil
	}
	facts, err := w.standing(ctx, w.stored, heard{})
	if err != nil {
		return err
	}
	w.asked.Facts.At, w.asked.Facts.Leg = facts.At, facts.Leg
	return w.await(ctx)
}

// foretellAdoption tells what adopting would change.
func (s *recoveries) foretellAdoption(ctx context.Context, it vault.Item, req vault.ActionRequest, p *vault.Plan) error {
	_, found, err := s.adoption(ctx, it, req.Input.Force)
	if err != nil {
		return err
	}
	p.Adoption, p.Losses = &found, found.Lost
	return nil
}
