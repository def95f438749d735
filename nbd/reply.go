package nbd

import (
	"iter"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// answer posts the reply; more is as for outbox.post. The task is gone after it.
func (t *task) answer(more bool) {
	out := t.session.out
	switch {
	case t.err != nil:
		if homeward.KindOf(t.err) == homeward.Canceled { // no failure of the disk: who asks again elsewhere is answered there
			t.session.cut()
		}
		out.post(parcel{head: t.failure(), owner: t}, more)
	case t.cmd == cmdRead:
		out.post(parcel{head: t.data(), owner: t}, more)
	case t.cmd == cmdBlockStatus:
		out.post(parcel{head: t.extra, owner: t}, more)
	default:
		t.simple(t.head[:], errOK)
		out.post(parcel{head: t.head[:simpleSize], owner: t}, more)
	}
}

func (t *task) simple(p []byte, no errno) {
	be.PutUint32(p, magicSimple)
	be.PutUint32(p[4:], uint32(no))
	be.PutUint64(p[8:], t.cookie)
}

// data frames what a read has read.
func (t *task) data() []byte {
	if !t.session.structured {
		p := t.buf.framed(simpleSize, t.size)
		t.simple(p, errOK)
		return p
	}
	if t.hole {
		chunk{flags: chunkDone, kind: chunkOffsetHole, cookie: t.cookie, n: 12}.put(t.head[:])
		be.PutUint64(t.head[structuredSize:], t.off)
		be.PutUint32(t.head[structuredSize+8:], t.n)
		return t.head[:structuredSize+12]
	}
	if t.size == 0 { // a data chunk must not be empty
		chunk{flags: chunkDone, kind: chunkNone, cookie: t.cookie}.put(t.head[:])
		return t.head[:structuredSize]
	}
	p := t.buf.framed(structuredSize+8, t.size)
	chunk{flags: chunkDone, kind: chunkOffsetData, cookie: t.cookie, n: uint32(8 + t.size)}.put(p)
	be.PutUint64(p[structuredSize:], t.off)
	return p
}

// failure frames t.err. Reads and block status of a client with structured
// replies get it with its text.
func (t *task) failure() []byte {
	no := errnoOf(t.err)
	if !t.session.structured || t.cmd != cmdRead && t.cmd != cmdBlockStatus {
		t.simple(t.head[:], no)
		return t.head[:simpleSize]
	}
	text := t.err.Error()
	text = text[:min(len(text), 1000)]
	p := make([]byte, structuredSize, structuredSize+6+len(text))
	chunk{flags: chunkDone, kind: chunkError, cookie: t.cookie, n: uint32(6 + len(text))}.put(p)
	p = be.AppendUint32(p, uint32(no))
	p = be.AppendUint16(p, uint16(len(text)))
	return append(p, text...)
}

// status fills t.extra with the reply to a block status request: a chunk for
// every context the client has chosen.
func (t *task) status() error {
	for i, c := range t.session.contexts {
		at := len(t.extra)
		t.extra = append(t.extra, make([]byte, structuredSize)...)
		t.extra = be.AppendUint32(t.extra, uint32(i+1))
		if err := t.extents(c.context); err != nil {
			return err
		}
		ch := chunk{kind: chunkBlockStatus, cookie: t.cookie, n: uint32(len(t.extra) - at - structuredSize)}
		if i == len(t.session.contexts)-1 {
			ch.flags = chunkDone
		}
		ch.put(t.extra[at:])
	}
	return nil
}

// extents appends descriptors of the asked range, adjacent ones of the same
// flags joined; not more than maxExtents, or one if that was asked for: the
// client asks again for the rest.
func (t *task) extents(c Context) error {
	most := maxExtents
	if t.flags&reqOne != 0 {
		most = 1
	}
	var run Extent
	count, left := 0, int64(t.n)
	add := func() {
		t.extra = be.AppendUint32(t.extra, uint32(run.Len))
		t.extra = be.AppendUint32(t.extra, run.Flags)
		count++
	}
	for e, err := range c.Extents(int64(t.off), int64(t.n)) {
		if err != nil {
			return err
		}
		e.Len = min(e.Len, left)
		left -= e.Len
		switch {
		case run.Len > 0 && run.Flags == e.Flags:
			run.Len += e.Len
		case run.Len > 0:
			add()
			run = e
		default:
			run = e
		}
		if count == most || left == 0 {
			break
		}
	}
	if run.Len > 0 && count < most {
		add()
	}
	if count == 0 {
		return homeward.Errorf("block status", homeward.Internal, t.session.export.Name, "", "the context described nothing")
	}
	return nil
}

// Extents makes allocation a Context.
func (a allocation) Extents(off, n int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		for e, err := range block.Extents(a.disk, off, n) {
			out := Extent{Len: e.Len}
			if e.Hole {
				out.Flags |= ExtentHole
			}
			if e.Zero {
				out.Flags |= ExtentZero
			}
			if !yield(out, err) {
				return
			}
		}
	}
}
