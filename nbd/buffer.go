package nbd

import "sync"

// headroom lies before the payload of every buffer: a reply's header is put
// there, so that header and payload leave as one contiguous piece. It is a cache
// line, which keeps payloads aligned.
const headroom = 64

// classes are the payload sizes buffers come in.
var classes = [...]int{4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, MaxRequest}

// buffers is a pool of payload buffers by size class. What is idle in it is left
// to the garbage collector; what is in use is bounded by the server's budget.
type buffers struct {
	pools [len(classes)]sync.Pool
}

// buffer is one pooled piece of memory.
type buffer struct {
	raw   []byte
	class int
}

// get returns a buffer whose payload holds n bytes, 0 <= n <= MaxRequest. The
// content is whatever was there before.
func (b *buffers) get(n int) *buffer {
	class := 0
	for classes[class] < n {
		class++
	}
	if got, ok := b.pools[class].Get().(*buffer); ok {
		return got
	}
	return &buffer{raw: make([]byte, headroom+classes[class]), class: class}
}

func (b *buffers) put(buf *buffer) { b.pools[buf.class].Put(buf) }

func (b *buffer) payload(n int) []byte { return b.raw[headroom : headroom+n] }

// framed is the payload's first n bytes with head bytes before them.
func (b *buffer) framed(head, n int) []byte { return b.raw[headroom-head : headroom+n] }
