package world

import (
	"context"

	"github.com/homeward-dr/homeward"
)

// A proxy stands for a role of a site, whichever process it runs in: what the
// control protocol is in production. While the role is dead it is Unavailable.

// running is a role and the process it runs in.
type running[R any] struct {
	role R
	p    *Process
}

// slot says which instance of a role runs.
type slot[R any] struct{ now func() (running[R], error) }

// ask makes one call of a role; an answer of a process that died meanwhile is lost.
func ask[R, Q, A any](s slot[R], ctx context.Context, q Q, call func(R, context.Context, Q) (A, error)) (A, error) {
	var none A
	r, err := s.now()
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-r.p.died:
			cancel()
		case <-stop:
		}
	}()
	a, err := call(r.role, ctx, q)
	if !r.p.Alive() {
		return none, r.p.errDead()
	}
	return a, err
}

type agentProxy struct{ slot[homeward.Agent] }
type targetProxy struct{ slot[homeward.MasterTarget] }
type processProxy struct{ slot[homeward.ProcessServer] }

func (x agentProxy) Prepare(ctx context.Context, q homeward.CaptureRequest) (homeward.CaptureReport, error) {
	return ask(x.slot, ctx, q, homeward.Agent.Prepare)
}
func (x agentProxy) Cut(ctx context.Context, q homeward.CutRequest) (homeward.CutReport, error) {
	return ask(x.slot, ctx, q, homeward.Agent.Cut)
}
func (x agentProxy) Drain(ctx context.Context, q homeward.DrainRequest) (homeward.CutReport, error) {
	return ask(x.slot, ctx, q, homeward.Agent.Drain)
}
func (x agentProxy) Handover(ctx context.Context, q homeward.GenerationRequest) (homeward.Changes, error) {
	return ask(x.slot, ctx, q, homeward.Agent.Handover)
}
func (x agentProxy) Report(ctx context.Context, q homeward.ItemRequest) (homeward.CaptureReport, error) {
	return ask(x.slot, ctx, q, homeward.Agent.Report)
}
func (x agentProxy) Changes(ctx context.Context, q homeward.ItemRequest) (homeward.Changes, error) {
	return ask(x.slot, ctx, q, homeward.Agent.Changes)
}
func (x agentProxy) MarkChanged(ctx context.Context, q homeward.MarkRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.Agent.MarkChanged)
}
func (x agentProxy) Release(ctx context.Context, q homeward.GenerationRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.Agent.Release)
}
func (x agentProxy) Hold(ctx context.Context, q homeward.HoldRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.Agent.Hold)
}
func (x agentProxy) CutHeld(ctx context.Context, q homeward.HoldRequest) (homeward.CutReport, error) {
	return ask(x.slot, ctx, q, homeward.Agent.CutHeld)
}
func (x agentProxy) ReleaseHold(ctx context.Context, q homeward.HoldRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.Agent.ReleaseHold)
}
func (x agentProxy) Freeze(ctx context.Context, q homeward.ItemRequest) (homeward.CutReport, error) {
	return ask(x.slot, ctx, q, homeward.Agent.Freeze)
}
func (x agentProxy) Unfreeze(ctx context.Context, q homeward.ItemRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.Agent.Unfreeze)
}
func (x agentProxy) Digest(ctx context.Context, q homeward.DigestRequest) (homeward.DigestReport, error) {
	return ask(x.slot, ctx, q, homeward.Agent.Digest)
}
func (x agentProxy) Baseline(ctx context.Context, q homeward.BaselineRequest) (homeward.BaselineReport, error) {
	return ask(x.slot, ctx, q, homeward.Agent.Baseline)
}
func (x agentProxy) ChangedSince(ctx context.Context, q homeward.BaselineRequest) (homeward.Changes, error) {
	return ask(x.slot, ctx, q, homeward.Agent.ChangedSince)
}
func (x agentProxy) SetGeneration(ctx context.Context, q homeward.GenerationRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.Agent.SetGeneration)
}

func (x targetProxy) Prepare(ctx context.Context, q homeward.ReplicaRequest) (homeward.ReplicaReport, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.Prepare)
}
func (x targetProxy) Points(ctx context.Context, q homeward.ItemRequest) (homeward.PointList, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.Points)
}
func (x targetProxy) Pin(ctx context.Context, q homeward.PinRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.Pin)
}
func (x targetProxy) Unpin(ctx context.Context, q homeward.PinRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.Unpin)
}
func (x targetProxy) Report(ctx context.Context, q homeward.ItemRequest) (homeward.ReplicaReport, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.Report)
}
func (x targetProxy) FailOver(ctx context.Context, q homeward.FailOverRequest) (homeward.View, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.FailOver)
}
func (x targetProxy) CancelFailOver(ctx context.Context, q homeward.GenerationRequest) (homeward.ReplicaReport, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.CancelFailOver)
}
func (x targetProxy) Promote(ctx context.Context, q homeward.GenerationRequest) (homeward.ReplicaReport, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.Promote)
}
func (x targetProxy) RollBack(ctx context.Context, q homeward.FailOverRequest) (homeward.ReplicaReport, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.RollBack)
}
func (x targetProxy) Diverged(ctx context.Context, q homeward.ItemRequest) (homeward.Changes, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.Diverged)
}
func (x targetProxy) OpenView(ctx context.Context, q homeward.ViewRequest) (homeward.View, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.OpenView)
}
func (x targetProxy) CloseView(ctx context.Context, q homeward.ViewRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.CloseView)
}
func (x targetProxy) Verify(ctx context.Context, q homeward.ItemRequest) (homeward.VerifyReport, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.Verify)
}
func (x targetProxy) Forget(ctx context.Context, q homeward.GenerationRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.Forget)
}
func (x targetProxy) Freeze(ctx context.Context, q homeward.ItemRequest) (homeward.CutReport, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.Freeze)
}
func (x targetProxy) Unfreeze(ctx context.Context, q homeward.ItemRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.Unfreeze)
}
func (x targetProxy) Digest(ctx context.Context, q homeward.DigestRequest) (homeward.DigestReport, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.Digest)
}
func (x targetProxy) SetGeneration(ctx context.Context, q homeward.GenerationRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.MasterTarget.SetGeneration)
}

func (x processProxy) Prepare(ctx context.Context, q homeward.RouteRequest) (homeward.RouteReport, error) {
	return ask(x.slot, ctx, q, homeward.ProcessServer.Prepare)
}
func (x processProxy) Forget(ctx context.Context, q homeward.GenerationRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.ProcessServer.Forget)
}
func (x processProxy) Limit(ctx context.Context, q homeward.LimitRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.ProcessServer.Limit)
}
func (x processProxy) Report(ctx context.Context, q homeward.ItemRequest) (homeward.RouteReport, error) {
	return ask(x.slot, ctx, q, homeward.ProcessServer.Report)
}
func (x processProxy) SetGeneration(ctx context.Context, q homeward.GenerationRequest) (homeward.Done, error) {
	return ask(x.slot, ctx, q, homeward.ProcessServer.SetGeneration)
}
