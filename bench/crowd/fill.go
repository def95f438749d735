package crowd

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

// size is how much a vault is filled with.
type size struct {
	items, jobs, nodes int
}

// roles are the names of nodes: of a hundred, 90 are agents, five process servers and
// five master targets, half of each at either site.
func (s size) roles() (all []*node) {
	for i := range s.nodes {
		site := sites[i%2]
		n := &node{role: pki.Agent, name: fmt.Sprintf("agent-%s-%04d", site, i/2)}
		switch i / 2 % 20 {
		case 0:
			n.role, n.name = pki.ProcessServer, fmt.Sprintf("ps-%s-%04d", site, i/40)
		case 1:
			n.role, n.name = pki.MasterTarget, fmt.Sprintf("mt-%s-%04d", site, i/40)
		}
		all = append(all, n)
	}
	return all
}

var sites = [2]string{"home", "away"}

// of are the names of the nodes of a role at a site.
func of(nodes []*node, r pki.Role, site string) (names []string) {
	for i, n := range nodes {
		if n.role == r && sites[i%2] == site {
			names = append(names, n.name)
		}
	}
	return names
}

// fill writes items, machines and jobs into the store of a vault that does not run. Its
// sites are there.
func fill(ctx context.Context, url string, s size, nodes []*node) (err error) {
	st, err := store.Open(ctx, store.Config{URL: url, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() {
		if e := st.Close(); err == nil {
			err = e
		}
	}()
	if err := st.Policies.Insert(ctx, &vault.Policy{Name: "gold", Settings: homeward.Policy{RPOThreshold: 15 * time.Minute}}); err != nil {
		return err
	}
	pick := map[string][]string{}
	for _, site := range sites {
		for _, r := range []pki.Role{pki.Agent, pki.ProcessServer, pki.MasterTarget} {
			pick[string(r)+site] = of(nodes, r, site)
		}
	}
	if err := inPortions(ctx, st, s.items, func(ctx context.Context, i int) error { return addItem(ctx, st, pick, i) }); err != nil {
		return err
	}
	return inPortions(ctx, st, s.jobs, func(ctx context.Context, i int) error { return addJob(ctx, st, s, i) })
}

// inPortions does something n times, 500 of them in a transaction.
func inPortions(ctx context.Context, st *store.Store, n int, do func(ctx context.Context, i int) error) error {
	for i := 0; i < n; {
		err := st.Tx(ctx, func(ctx context.Context) error {
			for end := min(i+500, n); i < end; i++ {
				if err := do(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func addItem(ctx context.Context, st *store.Store, nodes map[string][]string, i int) error {
	id := homeward.ItemID(fmt.Sprintf("item-%06d", i))
	end := func(site string) vault.End {
		one := func(r pki.Role) string { list := nodes[string(r)+site]; return list[i%len(list)] }
		return vault.End{Site: site, Agent: one(pki.Agent), ProcessServer: one(pki.ProcessServer), MasterTarget: one(pki.MasterTarget),
			Disks: []string{"file:/disks/" + string(id)}}
	}
	it := vault.Item{ID: id, Name: string(id), Machine: "home/" + string(id), State: vault.Protected, Policy: "gold", ActiveSite: "home",
		Original: end("home"), Recovery: end("away"), Direction: homeward.Direction{From: "home", To: "away"},
		Record: &recovery.Record{State: recovery.Protected, RunsAt: "home", StandsAt: "away",
			Machine: homeward.Machine{Item: id, Disks: []homeward.Disk{{ID: homeward.DiskID(id) + "-0", Size: 1 << 36}}}}}
	if err := st.Items.Insert(ctx, &it); err != nil {
		return err
	}
	return st.Machines.Insert(ctx, &vault.Machine{ID: it.Machine, Site: "home", Item: id, Presence: vault.Present})
}

// addJob is a job of the past, with tasks as a failover has.
func addJob(ctx context.Context, st *store.Store, s size, i int) error {
	began := time.Now().Add(-time.Duration(i) * time.Minute).UTC()
	j := vault.Job{ID: homeward.NewID().String(), Scenario: "TestFailover", Title: "Test failover", Action: vault.TestFailover, State: vault.JobSucceeded,
		Item: homeward.ItemID(fmt.Sprintf("item-%06d", i%s.items)), Caller: "bench", Started: began, Ended: began.Add(30 * time.Second)}
	for _, name := range []string{"Prerequisites check for test failover", "Create test virtual machine", "Preparing the virtual machine", "Start the virtual machine"} {
		j.Tasks = append(j.Tasks, vault.Task{Name: name, Title: name, State: vault.TaskSucceeded, Started: began, Ended: began.Add(5 * time.Second)})
	}
	return st.Jobs.Insert(ctx, &j)
}
