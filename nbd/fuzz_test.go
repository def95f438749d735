package nbd

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// option frames an option as a client sends it.
func option(opt uint32, data ...byte) []byte {
	b := be.AppendUint64(nil, magicOption)
	b = be.AppendUint32(b, opt)
	b = be.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// nameAnd frames a name with its length, and what follows it.
func nameAnd(name string, rest ...byte) []byte {
	return append(append(be.AppendUint32(nil, uint32(len(name))), name...), rest...)
}

// wire frames a request.
func wire(r request, payload ...byte) []byte {
	b := make([]byte, requestSize)
	r.put(b)
	return append(b, payload...)
}

// converseWith lets a server read input, and requires that it ends, leaves nothing of its
// budget behind, and has not touched the disk if it must not.
func converseWith(t *testing.T, input []byte) []byte {
	t.Helper()
	s := NewServer(ServerOptions{MaxRequests: 8, HandshakeTimeout: 5 * time.Second})
	d := block.NewMemory(1 << 20)
	if err := s.Add(Export{Name: "d", Disk: d, Contexts: map[string]Context{"homeward:dirty": striped{4096}}}); err != nil {
		t.Fatal(err)
	}
	theirs, ours := net.Pipe()
	var out bytes.Buffer
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(&out, ours) }) // ends with the connection
	both.Go(func() {
		_, _ = ours.Write(input) // the server may hang up in the middle
		_ = ours.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	})
	go func() {
		both.Wait()
		_ = ours.Close()
	}()
	_ = s.converse(theirs) // any error will do
	_ = theirs.Close()
	both.Wait()
	if !s.budget.requests.TryAcquire(8) || !s.budget.bytes.TryAcquire(2*MaxRequest) {
		t.Error("part of the budget is lost")
	}
	if err := s.Withdraw(t.Context(), "d", true); err != nil {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return out.Bytes()
}

func FuzzServerHandshake(f *testing.F) {
	hello := be.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes)
	f.Add([]byte{})
	f.Add(bytes.Join([][]byte{hello, option(optList), option(optStructuredReply), option(optAbort)}, nil))
	f.Add(bytes.Join([][]byte{hello, option(optStructuredReply), option(optSetMetaContext, nameAnd("d", append([]byte{0, 0, 0, 1}, nameAnd("base:allocation")...)...)...),
		option(optGo, nameAnd("d", 0, 2, 0, 3, 0, 1)...), wire(request{cmd: cmdBlockStatus, n: 4096})}, nil))
	f.Add(bytes.Join([][]byte{hello, option(optListMetaContext, nameAnd("d", 0, 0, 0, 0)...), option(optInfo, nameAnd("x", 0, 0)...)}, nil))
	f.Add(bytes.Join([][]byte{hello, option(optStartTLS), option(99, 1, 2, 3), option(optExportName, 'd')}, nil))
	f.Fuzz(func(t *testing.T, input []byte) { converseWith(t, input) })
}

func FuzzServerTransmission(f *testing.F) {
	f.Add(wire(request{cmd: cmdRead, n: 512, cookie: 1}))
	f.Add(append(wire(request{cmd: cmdWrite, n: 4, off: 5, flags: reqFUA}, 1, 2, 3, 4), wire(request{cmd: cmdFlush})...))
	f.Add(append(wire(request{cmd: cmdWriteZeroes, n: 1 << 20, flags: reqNoHole}), wire(request{cmd: cmdTrim, n: 1 << 31})...))
	f.Add(append(wire(request{cmd: cmdBlockStatus, n: 1 << 19}), wire(request{cmd: cmdBlockStatus, n: 1, flags: reqOne})...))
	f.Add(append(wire(request{cmd: cmdWrite, n: 1<<32 - 1}, make([]byte, 100)...), wire(request{cmd: cmdDisconnect})...))
	f.Add(append(wire(request{cmd: cmdRead, n: 256 << 10}), wire(request{cmd: cmdRead, off: 1<<64 - 1, n: 2})...))
	prefix := bytes.Join([][]byte{be.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes), option(optStructuredReply),
		option(optSetMetaContext, nameAnd("d", append([]byte{0, 0, 0, 2}, append(nameAnd("base:allocation"), nameAnd("homeward:dirty")...)...)...)...),
		option(optGo, nameAnd("d", 0, 0)...)}, nil)
	f.Fuzz(func(t *testing.T, input []byte) { converseWith(t, append(bytes.Clone(prefix), input...)) })
}

func FuzzClientHandshake(f *testing.F) {
	hello := be.AppendUint16(be.AppendUint64(be.AppendUint64(nil, magicServer), magicOption), flagFixedNewstyle|flagNoZeroes)
	reply := func(opt, kind uint32, data ...byte) []byte {
		b := be.AppendUint64(nil, magicOptReply)
		b = be.AppendUint32(be.AppendUint32(b, opt), kind)
		return append(be.AppendUint32(b, uint32(len(data))), data...)
	}
	export := be.AppendUint16(be.AppendUint64([]byte{0, infoExport}, 1<<20), canHasFlags|canFlush)
	f.Add(bytes.Join([][]byte{hello, reply(optStructuredReply, repAck), reply(optSetMetaContext, repMetaContext, append([]byte{0, 0, 0, 1}, ContextAllocation...)...),
		reply(optSetMetaContext, repAck), reply(optGo, repInfo, export...), reply(optGo, repInfo, 0, 3, 0, 0, 2, 0, 0, 0, 16, 0, 1, 0, 0, 0), reply(optGo, repAck)}, nil))
	f.Add(bytes.Join([][]byte{hello, reply(optStructuredReply, repErrUnsupported), reply(optGo, repErrUnsupported), make([]byte, 10)}, nil))
	f.Add(bytes.Join([][]byte{hello, reply(optStructuredReply, repErrUnsupported), reply(optGo, repErrPolicy, []byte("no")...)}, nil))
	f.Fuzz(func(t *testing.T, input []byte) {
		ours, theirs := net.Pipe()
		var both sync.WaitGroup
		both.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
		both.Go(func() {
			_, _ = theirs.Write(input)
			_ = theirs.Close()
		})
		o := ClientOptions{Contexts: []string{"homeward:dirty"}}
		j := &join{o: &o, uri: UnixURI("s", "d"), conn: ours, in: newInbox(ours)}
		e, err := j.run()
		if err == nil && (e.size < 0 || e.minBlock < 1 || e.maxRequest < 1 || e.maxRequest > MaxRequest) {
			t.Errorf("accepted %+v", e)
		}
		if err != nil && homeward.KindOf(err) == homeward.Internal {
			t.Errorf("without a kind: %v", err)
		}
		_ = ours.Close()
		both.Wait()
	})
}

func FuzzClientTransmission(f *testing.F) {
	simple := func(no uint32, cookie uint64, data ...byte) []byte {
		b := be.AppendUint32(be.AppendUint32(nil, magicSimple), no)
		return append(be.AppendUint64(b, cookie), data...)
	}
	structured := func(c chunk, data ...byte) []byte {
		b := make([]byte, structuredSize)
		c.n = uint32(len(data))
		c.put(b)
		return append(b, data...)
	}
	at := func(off uint64, rest ...byte) []byte { return append(be.AppendUint64(nil, off), rest...) }
	f.Add(bytes.Join([][]byte{simple(0, 2), structured(chunk{kind: chunkOffsetHole, cookie: 1}, at(100, 0, 0, 0, 8)...),
		structured(chunk{kind: chunkOffsetData, cookie: 1, flags: chunkDone}, at(108, make([]byte, 8)...)...)}, nil))
	f.Add(structured(chunk{kind: chunkError, cookie: 1, flags: chunkDone}, 0, 0, 0, 5, 0, 2, 'n', 'o'))
	f.Add(structured(chunk{kind: chunkErrorOffset, cookie: 3, flags: chunkDone}, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Add(structured(chunk{kind: chunkBlockStatus, cookie: 3, flags: chunkDone}, 0, 0, 0, 1, 0, 0, 16, 0, 0, 0, 0, 3))
	f.Add(simple(108, 2))
	f.Fuzz(func(t *testing.T, input []byte) {
		ours, theirs := net.Pipe()
		c := &Client{o: ClientOptions{}.withDefaults(), uri: UnixURI("s", "d"), calls: map[uint64]*call{}}
		c.export = remoteExport{size: 1 << 20, minBlock: 1, maxRequest: MaxRequest, structured: true, contexts: map[string]uint32{ContextAllocation: 1}}
		c.start(ours, newInbox(ours), c.export)
		var feeding sync.WaitGroup
		feeding.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
		guard := make([]byte, 48)
		read := c.newCall(cmdRead, 0, 100, 16)
		read.into = guard[16:32]
		write := c.newCall(cmdWrite, 0, 0, 4)
		write.payload = []byte{1, 2, 3, 4}
		status := c.newCall(cmdBlockStatus, 0, 0, 4096)
		sent := []*call{read, write, status}
		for _, k := range sent {
			if err := c.submit(k); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = theirs.Write(input)
		_ = theirs.Close()
		for _, k := range sent {
			<-k.done
			if k.err != nil && homeward.KindOf(k.err) == homeward.Internal {
				t.Errorf("without a kind: %v", k.err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		feeding.Wait()
		if !block.IsZero(guard[:16]) || !block.IsZero(guard[32:]) {
			t.Error("bytes outside the request's memory were written")
		}
	})
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{"nbd://host/x", "nbds://alice@[::1]:7/a%20b", "nbd+unix:///e?socket=/tmp/s", "nbds+unix:///?socket=a%26b", "nbd://", "http://x", "nbd+ssh://h/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || again != u {
			t.Errorf("%q is %+v, whose text %q is %+v (%v)", s, u, u.String(), again, err)
		}
	})
}
