package recovery

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// pace turns bytes done into progress. Safe for concurrent use.
type pace struct {
	began time.Time
	total int64
	tell  func(homeward.Progress)

	mu   sync.Mutex
	done int64
}

func (p *pace) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	now := homeward.Progress{Done: p.done, Total: p.total}
	if s := time.Since(p.began).Seconds(); s > 0 {
		now.Rate = float64(p.done) / s
	}
	if now.Rate > 0 {
		now.Left = float64(p.total-p.done) / now.Rate
	}
	p.tell(now)
}

// readAheadNodes are the nodes of level 1, of a MiB each, that one call digests:
// few enough that progress is seen and no call is long.
const readAheadNodes = 512

// readAhead has both sides digest a disk piece by piece, at the same time. They
// keep the digests, so that comparing them afterwards reads only what differs.
func readAhead(ctx context.Context, a, b *hasher, read *pace) error {
	const node = block.Fanout * block.Size
	nodes := (a.size + node - 1) / node
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range []*hasher{a, b} {
		g.Go(func() error {
			for at := int64(0); at < nodes; at += readAheadNodes {
				n := min(readAheadNodes, nodes-at)
				if _, err := h.Hashes(ctx, 1, at, n); err != nil {
					return err
				}
				read.add(min(n*node, h.size-at*node))
			}
			return nil
		})
	}
	return g.Wait()
}
