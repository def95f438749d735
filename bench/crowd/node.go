package crowd

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/enrol"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
)

// node is a simulated node: it enrols and dials as a real one does, over mutual TLS,
// and answers at once.
type node struct {
	name  string
	role  pki.Role
	token string
	beats *atomic.Int64
	asked *atomic.Int64
}

// The parts that the vault asks a node for while it only watches. What else there is
// in the contracts would be a call of an action, and there is none.
type (
	simulatedAgent   struct{ homeward.Agent }
	simulatedProcess struct{ homeward.ProcessServer }
	simulatedTarget  struct{ homeward.MasterTarget }
)

func (a simulatedAgent) Report(_ context.Context, r homeward.ItemRequest) (homeward.CaptureReport, error) {
	return homeward.CaptureReport{Item: r.Item, Complete: true, AppliedAt: time.Now()}, nil
}

func (p simulatedProcess) Report(_ context.Context, r homeward.ItemRequest) (homeward.RouteReport, error) {
	return homeward.RouteReport{Item: r.Item}, nil
}

func (t simulatedTarget) Report(_ context.Context, r homeward.ItemRequest) (homeward.ReplicaReport, error) {
	return homeward.ReplicaReport{Item: r.Item, State: homeward.ReplicaReplicating, Points: 10}, nil
}

// Health answers a heartbeat.
func (n *node) Health(context.Context, homeward.HealthRequest) (homeward.HealthReport, error) {
	n.beats.Add(1)
	return homeward.HealthReport{At: time.Now(), OSFamily: "linux", Volumes: []homeward.Volume{
		{Path: "/points", Device: "/dev/vdb", FSType: "ext4", Size: 1 << 40, Free: 1 << 39, Uses: []string{"retention"}, Default: true}}}, nil
}

// Probe says that every peer is near.
func (n *node) Probe(_ context.Context, r homeward.ProbeRequest) (homeward.ProbeReport, error) {
	return homeward.ProbeReport{Peer: r.Peer, URL: r.URL, At: time.Now(), Reachable: true, RTT: time.Millisecond, Rate: 1e8}, nil
}

func (n *node) handler() http.Handler {
	var h http.Handler
	switch n.role {
	case pki.ProcessServer:
		h = role.ProcessServerHandler(simulatedProcess{})
	case pki.MasterTarget:
		h = role.MasterTargetHandler(simulatedTarget{})
	default:
		h = role.AgentHandler(simulatedAgent{})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.asked.Add(1)
		h.ServeHTTP(w, r)
	})
}

// enter makes the node one of the vault's.
func (n *node) enter(ctx context.Context, vault, dir string) (*pki.Identity, error) {
	token, err := enrol.ParseToken(n.token)
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, n.name)
	err = enrol.Enrol(ctx, enrol.Request{Vaults: []string{vault}, Token: token, Peer: pki.Peer{Role: n.role, Name: n.name}, Dir: dir,
		FS: durable.OS(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.name, err)
	}
	return pki.LoadIdentity(durable.OS(), dir)
}

// serve answers the vault until ctx ends.
func (n *node) serve(ctx context.Context, vault string, id *pki.Identity) error {
	return role.Serve(ctx, role.Options{Controllers: []string{vault}, TLS: id.ClientTLS(pki.Vault), Hello: role.Hello{Peer: id.Peer(), Version: "simulated"},
		Handler: n.handler(), Member: enrol.Member(id, n), Log: slog.New(slog.DiscardHandler)})
}
