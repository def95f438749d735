package processserver

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/homeward-dr/homeward"
)

// overtaken does something with each put first.
type overtaken struct {
	homeward.Sink
	first func(ctx context.Context, body io.Reader) error
}

func (o overtaken) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	if err := o.first(ctx, body); err != nil {
		return homeward.Ack{}, err
	}
	return o.Sink.Put(ctx, item, body)
}

// A delta is lost on its way while the target waits for it with the next one: it
// is sent again at once, not when the target has lost its patience.
func TestServer_LostDeltaIsNotWaitedFor(t *testing.T) {
	r := newRig(t)
	var calls atomic.Int64
	second, recalled := make(chan struct{}), make(chan struct{})
	r.config.Dial = func(string) homeward.Sink {
		return overtaken{r.twin, func(ctx context.Context, body io.Reader) error {
			switch calls.Add(1) {
			case 1:
				_, _ = io.Copy(io.Discard, body) // that it is cut short is no matter
				<-second
				return homeward.Errorf("send", homeward.Unavailable, "target", "send it again", "the connection broke")
			case 2:
				close(second)
				<-ctx.Done() // it waits for the first
				close(recalled)
				return ctx.Err()
			}
			return nil
		}}
	}
	r.start()
	one, two := r.source.Next(t), r.source.Next(t)
	var puts sync.WaitGroup
	puts.Go(func() { _, _ = r.put(one) }) // what they answer is not the point
	puts.Go(func() { _, _ = r.put(two) })
	<-recalled
	r.mustApply()
	puts.Wait()
}

// Bodies are not sent side by side: they would share the link, and a target waits
// only so long for the first of them.
func TestServer_BodiesGoOneByOne(t *testing.T) {
	r := newRig(t)
	var last atomic.Pointer[watched]
	r.config.Dial = func(string) homeward.Sink { return oneByOne{r.twin, t, &last} }
	r.start()
	var puts sync.WaitGroup
	for range 16 {
		d := r.source.NextOfSize(t, 30)
		puts.Go(func() { _, _ = r.put(d) }) // what it answers is not the point
	}
	puts.Wait()
	r.mustApply()
}

// oneByOne checks that the body before was read to its end when the next one comes.
type oneByOne struct {
	homeward.Sink
	t    *testing.T
	last *atomic.Pointer[watched]
}

func (o oneByOne) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	w := &watched{from: body}
	if before := o.last.Swap(w); before != nil && !before.ended.Load() && !before.inside.Load() {
		o.t.Error("a delta is sent beside another one")
	}
	return o.Sink.Put(ctx, item, w)
}

type watched struct {
	from   io.Reader
	inside atomic.Bool // a read, which may be the last
	ended  atomic.Bool
}

func (w *watched) Read(p []byte) (int, error) {
	w.inside.Store(true)
	n, err := w.from.Read(p[:min(len(p), 512)])
	w.ended.Store(err != nil)
	w.inside.Store(false)
	return n, err
}
