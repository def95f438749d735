package main

import (
	"context"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

// dryRun tells what an action would do; what cannot be done is a Conflict.
func (r *remote) dryRun(ctx context.Context, v vault.Vault, req vault.ActionRequest) error {
	p, err := v.Plan(ctx, req)
	if err != nil {
		return err
	}
	if r.json {
		err = r.printJSON(p)
	} else {
		err = r.printPlan(p)
	}
	if err != nil {
		return err
	}
	return refusal(p)
}

// refusal is a Conflict where a plan is not allowed.
func refusal(p vault.Plan) error {
	if p.Allowed {
		return nil
	}
	return homeward.Errorf("plan "+string(p.Action), homeward.Conflict, "item "+string(p.Item), "see 'homeward item show "+string(p.Item)+"' for what is possible", "not possible now: %s", p.Why)
}

func (r *remote) printPlan(p vault.Plan) error {
	if err := r.line("Dry run: %s of %s. Nothing was changed.", p.Action, p.Item); err != nil {
		return err
	}
	for i, t := range p.Tasks {
		text := t.Title
		if t.State == vault.TaskSkipped {
			text += " (skipped: " + t.Why + ")"
		}
		if err := r.line("  %d. %s", i+1, text); err != nil {
			return err
		}
		for _, child := range t.Children {
			if err := r.line("     - %s", child.Title); err != nil {
				return err
			}
		}
	}
	if err := r.printAdoption(p.Adoption); err != nil {
		return err
	}
	if err := r.section("Checks", findingRows(p.Findings, false)); err != nil {
		return err
	}
	if p.Estimate != nil {
		if err := r.printEstimate(*p.Estimate); err != nil {
			return err
		}
	}
	if err := r.printSeeds(p.Seeds); err != nil {
		return err
	}
	return r.bullets("What will be lost", p.Losses)
}

func (r *remote) printAdoption(a *recovery.Adoption) error {
	if a == nil {
		return nil
	}
	if err := r.line("\nrecorded: %s\nfound:    %s", a.Recorded, a.Found); err != nil {
		return err
	}
	for _, part := range []struct {
		title string
		texts []string
	}{{"What says so", a.Evidence}, {"What nobody could be asked", a.Unknown}, {"What changes in the record", a.Changes}} {
		if err := r.bullets(part.title, part.texts); err != nil {
			return err
		}
	}
	return nil
}

func (r *remote) printEstimate(e homeward.Estimate) error {
	rows := [][]any{{"DISK", "CAUSE", "BYTES", "CERTAINTY"}}
	for _, f := range e.Figures {
		certainty := string(f.Certainty)
		if f.Why != "" {
			certainty += ": " + f.Why
		}
		if !f.AsOf.IsZero() {
			certainty += ", as of " + shortPosition(f.AsOf)
		}
		rows = append(rows, []any{f.Disk, f.Cause, size(f.Bytes), certainty})
	}
	if err := r.section("What will travel", rows); err != nil {
		return err
	}
	took := "time not known: no rate is"
	if e.Seconds > 0 {
		took = "about " + seconds(e.Seconds)
	}
	if err := r.line("total: %s (%s), %s over the link before compression, %s read to compare; %s",
		size(e.Bytes), e.Certainty, size(e.WireBytes), size(e.FullReads), took); err != nil {
		return err
	}
	if err := r.bullets("What would make it dearer", e.Dearer); err != nil {
		return err
	}
	return r.bullets("What stands in the way", e.Stops)
}

func (r *remote) printSeeds(s *vault.SeedsEstimate) error {
	switch {
	case s == nil:
		return nil
	case !s.Known:
		return r.line("The rule of thumb (R161): not known: %s", s.Why)
	}
	return r.line("The rule of thumb (R161) says %s: checksums %s, transfer %s, processing %s, scaling %s",
		seconds(s.Total), seconds(s.Checksum), seconds(s.Transfer), seconds(s.Processing), seconds(s.Autoscale))
}

func (r *remote) bullets(title string, texts []string) error {
	if len(texts) == 0 {
		return nil
	}
	return r.line("\n%s\n  - %s", title, strings.Join(texts, "\n  - "))
}

// shortPosition is enough of a position to tell it from its neighbours, and to name
// it on the command line.
func shortPosition(p homeward.Position) string { return p.Cut.String()[:12] }
