package service

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

// many are roles that answer at once and count what they are asked.
type many struct {
	Registry
	homeward.Agent
	calls atomic.Int64
}

type (
	manyProcess struct {
		homeward.ProcessServer
		*many
	}
	manyTarget struct {
		homeward.MasterTarget
		*many
	}
)

func (m *many) Live(n vault.Node) vault.Node                      { return n }
func (m *many) MaxGeneration(homeward.ItemID) homeward.Generation { return homeward.Generation{} }
func (m *many) Site(string) (homeward.Site, error) {
	return nil, homeward.Errorf("ask", homeward.Unavailable, "", "", "none")
}

type manyRoles struct{ *many }

func (m manyRoles) Agent(string) homeward.Agent                 { return m.many }
func (m manyRoles) ProcessServer(string) homeward.ProcessServer { return manyProcess{many: m.many} }
func (m manyRoles) MasterTarget(string) homeward.MasterTarget   { return manyTarget{many: m.many} }

func (m *many) Report(context.Context, homeward.ItemRequest) (homeward.CaptureReport, error) {
	m.calls.Add(1)
	return homeward.CaptureReport{}, nil
}

func (m manyProcess) Report(context.Context, homeward.ItemRequest) (homeward.RouteReport, error) {
	m.calls.Add(1)
	return homeward.RouteReport{}, nil
}

func (m manyTarget) Report(context.Context, homeward.ItemRequest) (homeward.ReplicaReport, error) {
	m.calls.Add(1)
	return homeward.ReplicaReport{Points: 10, NewestPoint: homeward.Point{Latest: true}}, nil
}

// populated is a vault of n protected items; only its monitor runs.
func populated(b *testing.B, n int) (*Service, *many) {
	b.Helper()
	st, err := store.Open(b.Context(), store.Config{URL: newFile(b), Log: slog.New(slog.DiscardHandler)})
	must(b, err)
	b.Cleanup(func() { must(b, st.Close()) })
	m := &many{}
	s, err := Open(b.Context(), Options{Store: st, Roles: manyRoles{m}, Registry: m, Log: slog.New(slog.DiscardHandler)})
	must(b, err)
	b.Cleanup(s.recoveries.engine.Close)
	must(b, st.Tx(b.Context(), func(ctx context.Context) error {
		for _, site := range []string{"home", "away"} {
			if err := st.Sites.Insert(ctx, &vault.Site{Name: site, Connected: true}); err != nil {
				return err
			}
		}
		if err := st.Policies.Insert(ctx, &vault.Policy{Name: "gold", Settings: homeward.Policy{RPOThreshold: time.Hour}}); err != nil {
			return err
		}
		for i := range n {
			id := homeward.ItemID(fmt.Sprintf("item-%05d", i))
			it := vault.Item{ID: id, Name: string(id), Machine: "home/" + string(id), State: vault.Protected, Policy: "gold", ActiveSite: "home",
				Original:  vault.End{Site: "home", Agent: "agent-home", ProcessServer: "ps-home", MasterTarget: "mt-home"},
				Recovery:  vault.End{Site: "away", Agent: "agent-away", ProcessServer: "ps-away", MasterTarget: "mt-away"},
				Direction: homeward.Direction{From: "home", To: "away"},
				Record:    &recovery.Record{State: recovery.Protected, RunsAt: "home", StandsAt: "away", Machine: homeward.Machine{Item: id, Disks: []homeward.Disk{{ID: "d0", Size: 1 << 36}}}}}
			if err := st.Items.Insert(ctx, &it); err != nil {
				return err
			}
			mach := vault.Machine{ID: it.Machine, Site: "home", Item: id, Presence: vault.Present}
			if err := st.Machines.Insert(ctx, &mach); err != nil {
				return err
			}
		}
		return st.Nodes.Insert(ctx, &vault.Node{Name: "mt-away", Site: "away", Role: pki.MasterTarget, State: vault.NodeReady})
	}))
	return s, m
}

// What it costs to watch ten thousand items, and how long a page of them takes
// meanwhile. Each round is ten seconds of the monitor.
func BenchmarkTenThousandItems(b *testing.B) {
	const items, length = 10_000, 10 * time.Second
	s, m := populated(b, items)
	cpu := func() time.Duration {
		var u syscall.Rusage
		must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	var mem runtime.MemStats
	var pages []time.Duration
	calls, used := int64(0), time.Duration(0)
	for b.Loop() {
		ctx, stop := context.WithTimeout(b.Context(), length)
		before, spent := m.calls.Load(), cpu()
		s.monitor.run(ctx)
		stop()
		calls, used = calls+m.calls.Load()-before, used+cpu()-spent
	}
	b.ReportMetric(float64(calls)/(length.Seconds()*float64(b.N)), "calls/s")
	b.ReportMetric(100*used.Seconds()/(length.Seconds()*float64(b.N)), "%core")
	runtime.GC()
	runtime.ReadMemStats(&mem)
	b.ReportMetric(float64(mem.HeapAlloc)/(1<<20), "MiB-heap")
	for q := (vault.Query{Limit: 100}); len(pages) < 50; {
		began := time.Now()
		page, err := s.Items(admin(b.Context()), q)
		must(b, err)
		pages = append(pages, time.Since(began))
		q.After = page.Next
	}
	var sum time.Duration
	for _, d := range pages {
		sum += d
	}
	b.ReportMetric(sum.Seconds()*1000/float64(len(pages)), "ms/page")
}
