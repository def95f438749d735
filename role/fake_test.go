package role

import (
	"context"
	"errors"
	"sync"

	"github.com/homeward-dr/homeward"
)

// recorder answers every call with what it was given, and remembers the request.
type recorder struct {
	mu     sync.Mutex
	method string
	args   []any
	answer any   // of the call's type, or nil for its zero value
	err    error // or this
	// block, if set, is received from before a call answers, unless its ctx ends.
	block   chan struct{}
	entered chan struct{} // receives when a blocking call has begun
	aborted chan error    // receives the ctx error of a blocked call
}

func record[Resp any](ctx context.Context, f *recorder, method string, args ...any) (Resp, error) {
	f.mu.Lock()
	block := f.block
	f.method, f.args = method, args
	answer, err := f.answer, f.err
	f.mu.Unlock()
	if block != nil {
		f.entered <- struct{}{}
		select {
		case <-block:
		case <-ctx.Done():
			f.aborted <- ctx.Err()
		}
	}
	var p panicking
	if errors.As(err, &p) {
		panic(string(p))
	}
	resp, _ := answer.(Resp)
	return resp, err
}

// panicking as an error makes the fake panic.
type panicking string

func (p panicking) Error() string { return string(p) }

type fakeAgent struct{ *recorder }

func (f fakeAgent) Prepare(ctx context.Context, r homeward.CaptureRequest) (homeward.CaptureReport, error) {
	return record[homeward.CaptureReport](ctx, f.recorder, "Prepare", r)
}

func (f fakeAgent) Cut(ctx context.Context, r homeward.CutRequest) (homeward.CutReport, error) {
	return record[homeward.CutReport](ctx, f.recorder, "Cut", r)
}

func (f fakeAgent) Drain(ctx context.Context, r homeward.DrainRequest) (homeward.CutReport, error) {
	return record[homeward.CutReport](ctx, f.recorder, "Drain", r)
}

func (f fakeAgent) Handover(ctx context.Context, r homeward.GenerationRequest) (homeward.Changes, error) {
	return record[homeward.Changes](ctx, f.recorder, "Handover", r)
}

func (f fakeAgent) Report(ctx context.Context, r homeward.ItemRequest) (homeward.CaptureReport, error) {
	return record[homeward.CaptureReport](ctx, f.recorder, "Report", r)
}

func (f fakeAgent) Changes(ctx context.Context, r homeward.ItemRequest) (homeward.Changes, error) {
	return record[homeward.Changes](ctx, f.recorder, "Changes", r)
}

func (f fakeAgent) MarkChanged(ctx context.Context, r homeward.MarkRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "MarkChanged", r)
}

func (f fakeAgent) Release(ctx context.Context, r homeward.GenerationRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "Release", r)
}

func (f fakeAgent) Hold(ctx context.Context, r homeward.HoldRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "Hold", r)
}

func (f fakeAgent) CutHeld(ctx context.Context, r homeward.HoldRequest) (homeward.CutReport, error) {
	return record[homeward.CutReport](ctx, f.recorder, "CutHeld", r)
}

func (f fakeAgent) ReleaseHold(ctx context.Context, r homeward.HoldRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "ReleaseHold", r)
}

func (f fakeAgent) Freeze(ctx context.Context, r homeward.ItemRequest) (homeward.CutReport, error) {
	return record[homeward.CutReport](ctx, f.recorder, "Freeze", r)
}

func (f fakeAgent) Unfreeze(ctx context.Context, r homeward.ItemRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "Unfreeze", r)
}

func (f fakeAgent) Digest(ctx context.Context, r homeward.DigestRequest) (homeward.DigestReport, error) {
	return record[homeward.DigestReport](ctx, f.recorder, "Digest", r)
}

func (f fakeAgent) Baseline(ctx context.Context, r homeward.BaselineRequest) (homeward.BaselineReport, error) {
	return record[homeward.BaselineReport](ctx, f.recorder, "Baseline", r)
}

func (f fakeAgent) ChangedSince(ctx context.Context, r homeward.BaselineRequest) (homeward.Changes, error) {
	return record[homeward.Changes](ctx, f.recorder, "ChangedSince", r)
}

func (f fakeAgent) SetGeneration(ctx context.Context, r homeward.GenerationRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "SetGeneration", r)
}

type fakeProcessServer struct{ *recorder }

func (f fakeProcessServer) Prepare(ctx context.Context, r homeward.RouteRequest) (homeward.RouteReport, error) {
	return record[homeward.RouteReport](ctx, f.recorder, "Prepare", r)
}

func (f fakeProcessServer) Forget(ctx context.Context, r homeward.GenerationRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "Forget", r)
}

func (f fakeProcessServer) Limit(ctx context.Context, r homeward.LimitRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "Limit", r)
}

func (f fakeProcessServer) Report(ctx context.Context, r homeward.ItemRequest) (homeward.RouteReport, error) {
	return record[homeward.RouteReport](ctx, f.recorder, "Report", r)
}

func (f fakeProcessServer) SetGeneration(ctx context.Context, r homeward.GenerationRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "SetGeneration", r)
}

type fakeMasterTarget struct{ *recorder }

func (f fakeMasterTarget) Prepare(ctx context.Context, r homeward.ReplicaRequest) (homeward.ReplicaReport, error) {
	return record[homeward.ReplicaReport](ctx, f.recorder, "Prepare", r)
}

func (f fakeMasterTarget) Points(ctx context.Context, r homeward.ItemRequest) (homeward.PointList, error) {
	return record[homeward.PointList](ctx, f.recorder, "Points", r)
}

func (f fakeMasterTarget) Pin(ctx context.Context, r homeward.PinRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "Pin", r)
}

func (f fakeMasterTarget) Unpin(ctx context.Context, r homeward.PinRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "Unpin", r)
}

func (f fakeMasterTarget) Report(ctx context.Context, r homeward.ItemRequest) (homeward.ReplicaReport, error) {
	return record[homeward.ReplicaReport](ctx, f.recorder, "Report", r)
}

func (f fakeMasterTarget) FailOver(ctx context.Context, r homeward.FailOverRequest) (homeward.View, error) {
	return record[homeward.View](ctx, f.recorder, "FailOver", r)
}

func (f fakeMasterTarget) CancelFailOver(ctx context.Context, r homeward.GenerationRequest) (homeward.ReplicaReport, error) {
	return record[homeward.ReplicaReport](ctx, f.recorder, "CancelFailOver", r)
}

func (f fakeMasterTarget) Promote(ctx context.Context, r homeward.GenerationRequest) (homeward.ReplicaReport, error) {
	return record[homeward.ReplicaReport](ctx, f.recorder, "Promote", r)
}

func (f fakeMasterTarget) RollBack(ctx context.Context, r homeward.FailOverRequest) (homeward.ReplicaReport, error) {
	return record[homeward.ReplicaReport](ctx, f.recorder, "RollBack", r)
}

func (f fakeMasterTarget) Diverged(ctx context.Context, r homeward.ItemRequest) (homeward.Changes, error) {
	return record[homeward.Changes](ctx, f.recorder, "Diverged", r)
}

func (f fakeMasterTarget) OpenView(ctx context.Context, r homeward.ViewRequest) (homeward.View, error) {
	return record[homeward.View](ctx, f.recorder, "OpenView", r)
}

func (f fakeMasterTarget) CloseView(ctx context.Context, r homeward.ViewRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "CloseView", r)
}

func (f fakeMasterTarget) Verify(ctx context.Context, r homeward.ItemRequest) (homeward.VerifyReport, error) {
	return record[homeward.VerifyReport](ctx, f.recorder, "Verify", r)
}

func (f fakeMasterTarget) Forget(ctx context.Context, r homeward.GenerationRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "Forget", r)
}

func (f fakeMasterTarget) Freeze(ctx context.Context, r homeward.ItemRequest) (homeward.CutReport, error) {
	return record[homeward.CutReport](ctx, f.recorder, "Freeze", r)
}

func (f fakeMasterTarget) Unfreeze(ctx context.Context, r homeward.ItemRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "Unfreeze", r)
}

func (f fakeMasterTarget) Digest(ctx context.Context, r homeward.DigestRequest) (homeward.DigestReport, error) {
	return record[homeward.DigestReport](ctx, f.recorder, "Digest", r)
}

func (f fakeMasterTarget) SetGeneration(ctx context.Context, r homeward.GenerationRequest) (homeward.Done, error) {
	return record[homeward.Done](ctx, f.recorder, "SetGeneration", r)
}
