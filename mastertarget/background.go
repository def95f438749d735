package mastertarget

import (
	"context"
	"sync"
)

// background is the work that outlives the call that began it: it ends when the
// target closes, and Close waits for it.
type background struct {
	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup
	idle   bool // offline: nothing may start by itself
}

func newBackground(ctx context.Context, idle bool) *background {
	b := &background{idle: idle}
	b.ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return b
}

// start runs do; its context ends when the target closes.
func (b *background) start(do func(ctx context.Context)) {
	if b.idle {
		return
	}
	b.group.Go(func() { do(b.ctx) })
}

func (b *background) stop() {
	b.cancel()
	b.group.Wait()
}
