package history

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
)

// Merge replaces adjacent segments (oldest first) by one that leads from the
// newest boundary of theirs to the oldest; the boundaries between are gone. It
// streams: memory is two frames for each input. A crash leaves either the inputs
// or the result, and perhaps both, which Load sorts out. When a boundary between
// is held by now, or inputs were dropped meanwhile, nothing changes.
func (c *Chain) Merge(ctx context.Context, inputs []*Segment) error {
	newest, oldest := inputs[len(inputs)-1], inputs[0]
	w, err := c.create(Span{Newer: newest.Newer, Older: oldest.Older, At: oldest.At})
	if err != nil {
		return err
	}
	if err := c.mergeInto(ctx, w, inputs); err != nil {
		return errors.Join(err, w.Abort())
	}
	merged, err := w.commit()
	if err != nil {
		return err
	}
	return c.replace(inputs, merged)
}

func (c *Chain) mergeInto(ctx context.Context, w *Writer, inputs []*Segment) error {
	var readers []*delta.Reader
	for _, s := range slices.Backward(inputs) { // undo deltas are merged newest first
		h, err := c.files.open(s.path)
		if err != nil {
			return err
		}
		defer c.files.done(h)
		readers = append(readers, h.reader)
	}
	_, _, err := delta.Merge(&interruptible{ctx, w.buf}, readers, delta.EncoderOptions{FrameBlocks: frameBlocks})
	return err
}

// replace puts merged in the place of its inputs.
func (c *Chain) replace(inputs []*Segment, merged *Segment) error {
	c.mu.Lock()
	i := slices.Index(c.segments, inputs[0])
	there := i >= 0 && i+len(inputs) <= len(c.segments) && slices.Equal(c.segments[i:i+len(inputs)], inputs)
	wanted := slices.ContainsFunc(inputs[1:], func(s *Segment) bool { return c.held(s.Older) })
	if !there || wanted {
		c.mu.Unlock()
		return c.remove([]*Segment{merged})
	}
	c.segments = slices.Replace(slices.Clone(c.segments), i, i+len(inputs), merged)
	c.mu.Unlock()
	return c.retire(inputs)
}

// interruptible ends a long merge when its caller does.
type interruptible struct {
	ctx context.Context
	w   io.Writer
}

func (i *interruptible) Write(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, homeward.Errorf("merge segments", homeward.Canceled, "", "", "%w", err)
	}
	return i.w.Write(p)
}
