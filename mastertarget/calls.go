package mastertarget

import (
	"context"

	"github.com/homeward-dr/homeward"
)

// Points implements homeward.Replica.
func (t *Target) Points(_ context.Context, req homeward.ItemRequest) (homeward.PointList, error) {
	it, err := t.item("list points", req.Item, false)
	if err != nil {
		return homeward.PointList{}, err
	}
	if _, err := it.open("list points"); err != nil {
		return homeward.PointList{}, err
	}
	var l homeward.PointList
	for _, p := range it.points() {
		l.Points = append(l.Points, p.Point)
	}
	return l, nil
}

// Pin implements homeward.Replica.
func (t *Target) Pin(_ context.Context, req homeward.PinRequest) (homeward.Done, error) {
	it, err := t.item("pin point", req.Item, false)
	if err != nil {
		return homeward.Done{}, err
	}
	return homeward.Done{}, holder{it}.pin(req)
}

// Unpin implements homeward.Replica. That the pin is not there is no error; a zero
// Point gives up every pin of the name.
func (t *Target) Unpin(_ context.Context, req homeward.PinRequest) (homeward.Done, error) {
	it, err := t.item("unpin point", req.Item, false)
	if err != nil {
		return homeward.Done{}, err
	}
	return homeward.Done{}, holder{it}.unpin(req)
}

// Thin enforces retention on an item now. It goes on by itself every
// Config.ThinEvery; one call does a bounded number of merges.
func (t *Target) Thin(ctx context.Context, id homeward.ItemID) error {
	it, err := t.item("thin", id, false)
	if err != nil {
		return err
	}
	return thinner{it}.thin(ctx)
}

// FailOver implements homeward.Recovery.
func (t *Target) FailOver(ctx context.Context, req homeward.FailOverRequest) (homeward.View, error) {
	it, err := t.item("fail over", req.Item, false)
	if err != nil {
		return homeward.View{}, err
	}
	return takeover{it}.failOver(ctx, req, false)
}

// CancelFailOver implements homeward.Recovery.
func (t *Target) CancelFailOver(ctx context.Context, req homeward.GenerationRequest) (homeward.ReplicaReport, error) {
	return reported(t, "cancel failover", req.Item, func(it *item) error { return takeover{it}.cancelFailOver(ctx, req.Generation) })
}

// Promote implements homeward.Recovery.
func (t *Target) Promote(ctx context.Context, req homeward.GenerationRequest) (homeward.ReplicaReport, error) {
	return reported(t, "promote view", req.Item, func(it *item) error { return promoter{it}.promote(ctx, req.Generation) })
}

// RollBack implements homeward.Recovery.
func (t *Target) RollBack(ctx context.Context, req homeward.FailOverRequest) (homeward.ReplicaReport, error) {
	return reported(t, "roll back", req.Item, func(it *item) error { return reverser{it}.rollBack(ctx, req) })
}

func reported(t *Target, op string, id homeward.ItemID, do func(*item) error) (homeward.ReplicaReport, error) {
	it, err := t.item(op, id, false)
	if err != nil {
		return homeward.ReplicaReport{}, err
	}
	if err := do(it); err != nil {
		return homeward.ReplicaReport{}, err
	}
	return reporter{it}.report()
}

// Diverged implements homeward.Recovery.
func (t *Target) Diverged(ctx context.Context, req homeward.ItemRequest) (homeward.Changes, error) {
	it, err := t.item("read diverged blocks", req.Item, false)
	if err != nil {
		return homeward.Changes{}, err
	}
	return divergences{it}.diverged(ctx)
}

// OpenView implements homeward.Viewer.
func (t *Target) OpenView(ctx context.Context, req homeward.ViewRequest) (homeward.View, error) {
	it, err := t.item("open view", req.Item, false)
	if err != nil {
		return homeward.View{}, err
	}
	if err := it.take(ctx, "open view"); err != nil {
		return homeward.View{}, err
	}
	defer it.give()
	return stage{it}.openView(ctx, req)
}

// CloseView implements homeward.Viewer. That it is not open is no error.
func (t *Target) CloseView(ctx context.Context, req homeward.ViewRequest) (homeward.Done, error) {
	it, err := t.item("close view", req.Item, false)
	if err != nil {
		return homeward.Done{}, err
	}
	if err := it.take(ctx, "close view"); err != nil {
		return homeward.Done{}, err
	}
	defer it.give()
	if req.Name == failOverView {
		return homeward.Done{}, homeward.Errorf("close view", homeward.Conflict, req.Name, "cancel the failover, or promote it", "a machine runs on it")
	}
	return homeward.Done{}, it.closeViews(ctx, func(v *view) bool { return v.Name == req.Name })
}

// Verify implements homeward.Keeper.
func (t *Target) Verify(ctx context.Context, req homeward.ItemRequest) (homeward.VerifyReport, error) {
	it, err := t.item("verify item", req.Item, false)
	if err != nil {
		return homeward.VerifyReport{}, err
	}
	return verifier{it}.verify(ctx)
}

// Forget implements homeward.Keeper. That the item is forgotten already is no error.
func (t *Target) Forget(ctx context.Context, req homeward.GenerationRequest) (homeward.Done, error) {
	it, err := t.item("forget item", req.Item, true)
	if err != nil {
		return homeward.Done{}, err
	}
	return homeward.Done{}, preparer{it}.forget(ctx, req.Generation)
}

// Freeze implements homeward.Prover: there is nothing to freeze here.
func (t *Target) Freeze(context.Context, homeward.ItemRequest) (homeward.CutReport, error) {
	return homeward.CutReport{}, frozen("freeze")
}

// Unfreeze implements homeward.Prover.
func (t *Target) Unfreeze(context.Context, homeward.ItemRequest) (homeward.Done, error) {
	return homeward.Done{}, frozen("unfreeze")
}

func frozen(op string) error {
	return homeward.Errorf(op, homeward.Unsupported, "master target", "ask the mobility agent", "points are frozen already")
}

// Digest implements homeward.Prover.
func (t *Target) Digest(ctx context.Context, req homeward.DigestRequest) (homeward.DigestReport, error) {
	it, err := t.item("digest", req.Item, false)
	if err != nil {
		return homeward.DigestReport{}, err
	}
	return prover{it}.digest(ctx, req)
}
