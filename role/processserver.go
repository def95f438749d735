package role

import (
	"context"
	"net/http"

	"github.com/homeward-dr/homeward"
)

// ProcessServerHandler serves a process server.
func ProcessServerHandler(p homeward.ProcessServer) http.Handler {
	return contract("process-server", map[string]endpoint{
		"prepare":        method(p.Prepare),
		"forget":         method(p.Forget),
		"limit":          method(p.Limit),
		"report":         method(p.Report),
		"set-generation": method(p.SetGeneration),
	})
}

// ProcessServer calls the process server at a node.
func ProcessServer(n *Node) homeward.ProcessServer { return processServer{n} }

type processServer struct{ at *Node }

// Prepare leaves the weight out for a process server of protocol 2, which would refuse
// it as an unknown field: its routes have equal parts.
func (p processServer) Prepare(ctx context.Context, r homeward.RouteRequest) (homeward.RouteReport, error) {
	if p.at.Status().Protocol < 3 {
		r.Weight = 0
	}
	return call[homeward.RouteReport](ctx, p.at, "process-server/prepare", r)
}

func (p processServer) Forget(ctx context.Context, r homeward.GenerationRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, p.at, "process-server/forget", r)
}

func (p processServer) Limit(ctx context.Context, r homeward.LimitRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, p.at, "process-server/limit", r)
}

func (p processServer) Report(ctx context.Context, r homeward.ItemRequest) (homeward.RouteReport, error) {
	return call[homeward.RouteReport](ctx, p.at, "process-server/report", r)
}

func (p processServer) SetGeneration(ctx context.Context, r homeward.GenerationRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, p.at, "process-server/set-generation", r)
}
