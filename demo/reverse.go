package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
)

// reverse tells the cost, reprotects, and proves both sides equal, for each machine.
func (s *story) reverse(ctx context.Context, title, to string) error {
	args := []string{"--master-target", "mt-" + to, "--datastore", s.Datastore(to), "--yes"}
	_, err := s.chapter(ctx, title+", dry run", time.Minute, func(ctx context.Context) error {
		return s.Operator.Do(ctx, append([]string{"item", "reprotect", string(s.guests[0].item), "--dry-run"}, args...)...)
	})
	if err != nil {
		return err
	}
	for _, g := range s.guests {
		e, err := s.chapter(ctx, title+", "+string(g.item), 10*time.Minute, func(ctx context.Context) error {
			return s.Operator.Do(ctx, append([]string{"item", "reprotect", string(g.item), "--wait"}, args...)...)
		})
		if err != nil {
			return err
		}
		if e.Reverse, err = s.took(ctx, g); err != nil {
			return err
		}
		at := len(s.report.Steps) - 1
		s.say("    %s predicted, %s applied and %s on the wire by the first point, what the machine wrote meanwhile included; %s read only to find differences",
			lab.Size(e.PredictedBytes), lab.Size(e.DirtyBytes), lab.Size(e.WireBytes), lab.Size(e.FullReads))
		proof, err := s.prove(ctx, g)
		if err != nil {
			return err
		}
		s.report.Steps[at].DigestEqual = proof.Equal
	}
	return nil
}

// took is what a reprotect predicted and took, as its job says.
func (s *story) took(ctx context.Context, g *guest) (*Reverse, error) {
	j, err := s.newest(ctx, g, "IrCompletion")
	if err != nil {
		return nil, err
	}
	var took recovery.Reversal
	if err := json.Unmarshal(j.Took, &took); err != nil {
		return nil, homeward.Errorf("read job", homeward.Internal, j.ID, "report this", "%w", err)
	}
	r := &Reverse{DirtyBytes: took.Changed, WireBytes: took.WireBytes, FullReads: took.FullReads, ResyncSeconds: took.Seconds, Branch: took.Branch}
	if j.Predicted != nil {
		r.Estimate, r.PredictedBytes = *j.Predicted, j.Predicted.Bytes
	}
	return r, nil
}

// prove digests both sides at one instant; the vault signs what it saw.
func (s *story) prove(ctx context.Context, g *guest) (proof homeward.Proof, err error) {
	var signed pki.SignedJSON
	e, err := s.chapter(ctx, fmt.Sprintf("Proof: digests of both sides of %s at one point", g.item), 5*time.Minute, func(ctx context.Context) error {
		if err := s.Operator.Do(ctx, "item", "prove", string(g.item), "--wait"); err != nil {
			return err
		}
		return s.Operator.Ask(ctx, &signed, "item", "proof", string(g.item))
	})
	if err != nil {
		return proof, err
	}
	e.Proof = &signed
	if err := signed.Decode(&proof); err != nil {
		return proof, err
	}
	if !proof.Equal {
		return proof, homeward.Errorf("prove", homeward.Corrupt, "item "+string(g.item), "keep the demo's directory and report this", "the sides differ")
	}
	return proof, nil
}
