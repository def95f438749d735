package crowd

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/vault"
)

// pages asks for pages of each list, from the first on, and for how long each took.
func (t *staged) pages(ctx context.Context, v measure.Values) error {
	lists := map[string]func(vault.Query) (int, string, error){
		"items": func(q vault.Query) (int, string, error) { return turn(t.client.Items(ctx, q)) },
		"jobs":  func(q vault.Query) (int, string, error) { return turn(t.client.Jobs(ctx, q)) },
		"nodes": func(q vault.Query) (int, string, error) { return turn(t.client.Nodes(ctx, q)) },
	}
	for _, name := range []string{"items", "jobs", "nodes"} {
		var took []float64
		for q := (vault.Query{Limit: 100}); len(took) < 50; {
			began := time.Now()
			n, next, err := lists[name](q)
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("an empty page of %s", name)
			}
			if took, q.After = append(took, time.Since(began).Seconds()), next; next == "" {
				if len(took) == 1 {
					break
				}
				q.After = "" // from the beginning again
			}
		}
		slices.Sort(took)
		v["page_p50."+name], v["page_p99."+name] = measure.Quantile(took, 0.5), measure.Quantile(took, 0.99)
	}
	return nil
}

func turn[T any](p vault.Page[T], err error) (int, string, error) { return len(p.Entries), p.Next, err }
