// Package crowd measures a vault with many items, nodes and jobs: a real process with
// its store, nodes that enrol and dial as real ones do but answer at once, and an
// operator who asks for pages over HTTPS.
package crowd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward/api"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/meter"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/store/storetest"
	"github.com/homeward-dr/homeward/vault"
)

// Chapter is all of it.
func Chapter() measure.Chapter {
	return measure.Chapter{Name: "vault", What: "a vault with many items, nodes and jobs, on SQLite and PostgreSQL",
		Needs:   []measure.Requirement{{Program: "pg_ctl", Package: "postgresql"}},
		Measure: func(ctx context.Context, b *measure.Bench) (measure.Figure, error) { return chapter(ctx, b, sizes(b)) }}
}

const ours = "Homeward"

func sizes(b *measure.Bench) []size {
	if b.Full {
		return []size{{items: 1_000, jobs: 10_000, nodes: 100}, {items: 10_000, jobs: 100_000, nodes: 1_000}}
	}
	if b.Smoke {
		return []size{{items: 120, jobs: 120, nodes: 40}}
	}
	return []size{{items: 500, jobs: 1_000, nodes: 50}}
}

func chapter(ctx context.Context, b *measure.Bench, all []size) (f measure.Figure, err error) {
	f = measure.Figure{Title: "The vault: many items, nodes and jobs", What: what}
	defer present(&f)
	for _, kind := range []string{"SQLite", "PostgreSQL"} {
		for _, s := range all {
			b.Say("vault on %s with %d items, %d nodes, %d jobs", kind, s.items, s.nodes, s.jobs)
			labels := []measure.Label{{Name: "store", Value: kind}, {Name: "items", Value: fmt.Sprint(s.items)},
				{Name: "nodes", Value: fmt.Sprint(s.nodes)}, {Name: "jobs", Value: fmt.Sprint(s.jobs)}}
			series, err := measure.Alternate(ctx, 1, labels, measure.Contender{Name: ours, Measure: func(ctx context.Context) (measure.Values, error) {
				return run(ctx, b, kind, s)
			}})
			if err != nil {
				return f, err
			}
			f.Series = append(f.Series, series)
		}
	}
	return f, nil
}

const what = "`homeward vault` as a process. Its store holds protected items, one machine each, and jobs that\n" +
	"ended. Nodes are simulated: each has enrolled with a one-time token, dialled over mutual TLS and answers heartbeats\n" +
	"(every 10 s) and questions about items at once; all of them are in the process that measures. Processor time is the\n" +
	"vault's, 1 being a whole processor: with the nodes alone, then while it watches all items too. Pages have 100 entries,\n" +
	"and are asked for one after another by the Go client over HTTPS meanwhile. PostgreSQL runs beside it, without fsync,\n" +
	"and its own time and memory are not counted."

// staged is an installation with its crowd.
type staged struct {
	*lab.Installation
	client *api.Client
	nodes  []*node
	beats  atomic.Int64
	asked  atomic.Int64
	cancel context.CancelFunc
	served errgroup.Group
}

// run fills a vault, lets its nodes dial in, and watches it at work.
func run(ctx context.Context, b *measure.Bench, kind string, s size) (v measure.Values, err error) {
	t := &staged{nodes: s.roles()}
	dir, err := os.MkdirTemp(b.Dir, "v-")
	if err != nil {
		return nil, err
	}
	plan := lab.Plan{Executable: b.Binary, Dir: dir}
	if kind == "PostgreSQL" {
		var server storetest.PostgreSQL
		defer server.Close()
		if err := server.Ensure(); err != nil {
			return nil, err
		}
		plan.Store = server.URL("postgres")
	}
	if t.Installation, err = lab.Install(ctx, plan); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, t.end(), os.RemoveAll(dir)) }()
	if err := t.connect(); err != nil {
		return nil, err
	}
	v = measure.Values{}
	if err := t.populate(ctx, b, s); err != nil {
		return nil, err
	}
	if v["cpu_nodes"], v["beats_per_second"], _, err = t.watch(ctx, b); err != nil {
		return nil, err
	}
	// The same vault, filled.
	t.Vault.Stop()
	if err := fill(ctx, t.store(), s, t.nodes); err != nil {
		return nil, err
	}
	if err := t.Vault.Start(ctx, b.Binary); err != nil {
		return nil, err
	}
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	if err := pause(ctx, settle(b)); err != nil {
		return nil, err
	}
	if v["cpu_items"], _, v["asked_per_second"], err = t.watch(ctx, b); err != nil {
		return nil, err
	}
	m, err := meter.New(t.Vault.PID())
	if err != nil {
		return nil, err
	}
	if err := t.pages(ctx, v); err != nil {
		return nil, err
	}
	used, err := m.End()
	v["peak_bytes"] = float64(used.Peak)
	return v, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// settle is how long what happens once at a start gets to be over.
func settle(b *measure.Bench) time.Duration {
	if b.Smoke {
		return 0
	}
	if b.Full {
		return 30 * time.Second
	}
	return 5 * time.Second
}

// store is the URL of the vault's.
func (t *staged) store() string {
	if t.Store != "" {
		return t.Store
	}
	return "sqlite:" + filepath.Join(t.Dir, "vault", "vault.db")
}

// connect makes the operator's client.
func (t *staged) connect() (err error) {
	o := api.ClientOptions{}
	for _, e := range t.Operator.Env {
		switch name, value, _ := strings.Cut(e, "="); name {
		case "HOMEWARD_VAULT":
			o.URL = value
		case "HOMEWARD_TOKEN":
			o.Token = value
		case "HOMEWARD_CA":
			o.CA = value
		}
	}
	t.client, err = api.NewClient(o)
	return err
}

// populate enrols the nodes and has them dial in.
func (t *staged) populate(ctx context.Context, b *measure.Bench, s size) error {
	for _, site := range sites {
		if _, err := t.client.PutSite(ctx, vault.SiteRequest{Name: site}); err != nil {
			return err
		}
	}
	ids := make([]*pki.Identity, len(t.nodes))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, n := range t.nodes {
		n.beats, n.asked = &t.beats, &t.asked
		g.Go(func() error {
			token, err := t.client.CreateEnrolment(gctx, vault.EnrolmentRequest{Role: n.role, Site: sites[i%2], Node: n.name})
			if err != nil {
				return err
			}
			n.token = token.Secret
			ids[i], err = n.enter(gctx, t.Vault.Flag("--listen-nodes"), filepath.Join(t.Dir, "nodes"))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b.Say("%d nodes are enrolled", s.nodes)
	ctx, t.cancel = context.WithCancel(ctx)
	for i, n := range t.nodes {
		t.served.Go(func() error { return n.serve(ctx, t.Vault.Flag("--listen-nodes"), ids[i]) })
	}
	return t.ready(ctx)
}

// ready waits until the vault has heard every node.
func (t *staged) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		heard := 0
		for q := (vault.Query{Limit: vault.MaxPage}); ; {
			page, err := t.client.Nodes(ctx, q)
			if err != nil {
				return err
			}
			for _, n := range page.Entries {
				if n.State == vault.NodeReady {
					heard++
				}
			}
			if q.After = page.Next; q.After == "" {
				break
			}
		}
		if heard == len(t.nodes) {
			return nil
		}
		if err := pause(ctx, time.Second); err != nil {
			return fmt.Errorf("the vault has heard %d of %d nodes: %w", heard, len(t.nodes), err)
		}
	}
}

// watch takes account of the vault for a while, in which nobody asks it for anything.
func (t *staged) watch(ctx context.Context, b *measure.Bench) (cpu, beats, asked float64, err error) {
	length := 10 * time.Second
	if b.Smoke {
		length = 2 * time.Second
	}
	if b.Full {
		length = 30 * time.Second
	}
	m, err := meter.New(t.Vault.PID())
	if err != nil {
		return 0, 0, 0, err
	}
	beatsBefore, askedBefore, began := t.beats.Load(), t.asked.Load(), time.Now()
	err = pause(ctx, length)
	used, e := m.End()
	seconds := time.Since(began).Seconds()
	return used.CPU / seconds, float64(t.beats.Load()-beatsBefore) / seconds, float64(t.asked.Load()-askedBefore) / seconds, errors.Join(err, e)
}

// end ends the nodes and the vault.
func (t *staged) end() error {
	if t.cancel != nil {
		t.cancel()
	}
	err := t.served.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, t.Close())
}
