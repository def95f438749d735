package service

import (
	"context"
	"encoding/json"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

// proving is the job that digests both sides at one point.
func (s *workshop) proving() job.Definition {
	return job.Definition{Scenario: scenarioProve, Title: "Prove both sides equal", Tasks: func(context.Context, vault.Job) ([]job.TaskDef, error) {
		return []job.TaskDef{{Name: "ProveItemTask", Title: "Digesting both sides at one frozen point", Do: s.on(prove)}}, nil
	}}
}

// prove keeps the signed report under the job's id, so that a task that is done again
// replaces nothing.
func prove(ctx context.Context, w *work) error {
	id := w.run.Job().ID
	proof, err := w.item.Prove(ctx)
	if err != nil {
		return err
	}
	proof.Source, proof.Target = nodeNames(w)
	signed, err := pki.Sign(w.identity, proof)
	if err != nil {
		return err
	}
	data, err := json.Marshal(signed)
	if err != nil {
		return homeward.Wrap(err, "write proof", "item "+string(w.id()))
	}
	if err := w.store.AddProof(ctx, id, data); err != nil && homeward.KindOf(err) != homeward.Exists {
		return err
	}
	if err := w.change(ctx, func(it *vault.Item) { it.Proof = id }); err != nil {
		return err
	}
	if !proof.Equal {
		return homeward.Errorf("prove", homeward.Corrupt, "item "+string(w.id()), "resync the item, and find out what wrote to its replica", "the two sides differ; the signed proof %s says where", id)
	}
	return nil
}

// nodeNames are who digested: the agent where the machine runs, and the master target
// of the other side.
func nodeNames(w *work) (source, target string) {
	return endOf(&w.stored, w.item.Running.Name).Agent, endOf(&w.stored, w.item.Standby.Name).MasterTarget
}
