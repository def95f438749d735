package agent

import (
	"bytes"
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/delta"
)

const (
	deltaBytes = 8 << 20  // stored bytes at which a delta is closed
	deltaReads = 64 << 20 // disk bytes at which it is closed though most are zero
	readBlocks = 256      // read at a time: 1 MiB
	inFlight   = 3        // deltas of one item in memory

	deltaFraming = 256 << 10 // room beside the blocks, mostly enough
)

// parcel is one delta in memory on its way to the sink.
type parcel struct {
	cut      *cutting
	position homeward.Position // where the replica stands once it is applied
	body     *bytes.Buffer
	blocks   []span // it carries
	bytes    int64  // of them
}

// span is a run of blocks of one disk.
type span struct {
	disk int
	run  block.Run
}

// buffers bounds the deltas in memory, being packed or in flight, each a little
// over deltaBytes. A buffer not in use yet is nil.
type buffers chan *bytes.Buffer

func newBuffers() buffers {
	b := make(buffers, inFlight)
	for range cap(b) {
		b <- nil
	}
	return b
}

// take waits for one with room for need bytes. Memory that is much larger than
// that is let go: after a bulk, an item at rest keeps little.
func (b buffers) take(ctx context.Context, need int) (*bytes.Buffer, error) {
	select {
	case buf := <-b:
		if buf == nil || buf.Cap() < need || buf.Cap() > 4*need {
			buf = bytes.NewBuffer(make([]byte, 0, need))
		}
		buf.Reset()
		return buf, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// give returns the room of buf. With reuse false its memory is not used again:
// a transport whose call failed may still be reading from it.
func (b buffers) give(buf *bytes.Buffer, reuse bool) {
	if !reuse {
		buf = nil
	}
	b <- buf
}

// packer turns cuts into parcels, each following the one before. For one goroutine.
type packer struct {
	leg     *leg
	tip     homeward.Position // the next parcel follows it
	buffers buffers
	send    func(context.Context, *parcel) error // in order
	read    []byte                               // readBlocks long

	open   *parcel // being filled; nil: none
	header delta.Header
	enc    *delta.Encoder
}

// pack sends the parcels of c: all but the last are closed by MarkNone, the last
// by the cut's own mark. It fails with capture.ErrDemoted when the cut is given up
// meanwhile; the parcels sent until then stay valid.
func (k *packer) pack(ctx context.Context, c *cutting) error {
	for disk := range k.leg.disks {
		if c.bytes == 0 {
			break // no need to make maps
		}
		for run := range c.cut.Map(disk).Runs(0) {
			if err := k.add(ctx, c, disk, run); err != nil {
				k.drop()
				return err
			}
		}
	}
	err := k.begin(ctx, c)
	if err == nil {
		err = k.close(ctx, c.mark)
	}
	k.drop()
	return err
}

func (k *packer) add(ctx context.Context, c *cutting, disk int, run block.Run) error {
	size := k.leg.disks[disk].Size
	for run.Count > 0 {
		if k.open != nil && (k.enc.Size() >= deltaBytes || k.open.bytes >= deltaReads) {
			if err := k.close(ctx, homeward.Mark{Kind: homeward.MarkNone, At: c.mark.At}); err != nil {
				return err
			}
		}
		if err := k.begin(ctx, c); err != nil {
			return err
		}
		part := block.Run{Start: run.Start, Count: min(run.Count, readBlocks)}
		data := k.read[:min(part.Count*block.Size, size-part.Start*block.Size)]
		if err := c.cut.ReadBlocks(disk, part.Start, part.Count, data); err != nil {
			return homeward.Wrap(err, "read cut", "disk "+string(k.leg.disks[disk].ID))
		}
		if err := k.enc.Add(disk, part.Start, data); err != nil {
			return err
		}
		k.open.carries(span{disk, part}, int64(len(data)))
		run.Start, run.Count = run.Start+part.Count, run.Count-part.Count
	}
	return nil
}

func (p *parcel) carries(s span, bytes int64) {
	p.bytes += bytes
	if n := len(p.blocks); n > 0 {
		last := &p.blocks[n-1]
		if last.disk == s.disk && last.run.Start+last.run.Count == s.run.Start {
			last.run.Count += s.run.Count
			return
		}
	}
	p.blocks = append(p.blocks, s)
}

// begin opens a delta that follows the tip, unless one is open.
func (k *packer) begin(ctx context.Context, c *cutting) error {
	if k.open != nil {
		return nil
	}
	body, err := k.buffers.take(ctx, int(min(c.bytes, deltaBytes+readBlocks*block.Size))+deltaFraming)
	if err != nil {
		return err
	}
	k.open = &parcel{cut: c, body: body}
	k.header = delta.Header{Kind: delta.Forward, Item: k.leg.id, Disks: k.leg.disks, Follows: k.tip, Machine: k.leg.machine,
		To: homeward.Position{Generation: k.leg.generation, Sequence: k.tip.Sequence + 1, Cut: c.cut.ID}}
	k.enc, err = delta.NewEncoder(body, k.header, delta.EncoderOptions{})
	return err
}

// close ends the open delta and sends it.
func (k *packer) close(ctx context.Context, mark homeward.Mark) error {
	t, err := k.enc.Close(mark)
	if err != nil {
		return err
	}
	p := k.open
	p.position = k.header.Position(t)
	k.leg.meter.packed(t.PlainBytes)
	if err := k.send(ctx, p); err != nil {
		return err
	}
	k.open, k.tip = nil, p.position
	return nil
}

// drop gives up a delta that was not sent.
func (k *packer) drop() {
	if k.open != nil {
		k.buffers.give(k.open.body, true)
		k.open = nil
	}
}
