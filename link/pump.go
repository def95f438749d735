package link

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const chunkSize = 16 << 10

// parcel is some bytes under way.
type parcel struct {
	data []byte
	due  time.Time // when they arrive
}

// pump carries one direction of a connection: what is read is given its time of
// arrival and queued; what has arrived is written. An end of file travels the
// same way, after all bytes before it.
func (l *Link) pump(ctx context.Context, way *lane, from, to net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parcels := make(chan parcel, max(1, l.options.Queue/chunkSize))
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(parcels)
		l.load(ctx, way, from, parcels)
	})
	if !l.unload(ctx, way, to, parcels) {
		reset(from) // nothing can be delivered any more
		reset(to)
	}
	cancel()
	reading.Wait()
}

func (l *Link) load(ctx context.Context, way *lane, from net.Conn, parcels chan<- parcel) {
	var last time.Time
	for {
		data := make([]byte, chunkSize)
		n, err := from.Read(data)
		if n > 0 {
			due := way.send(time.Now(), n, l.options.BytesPerSecond).Add(l.options.Delay)
			if l.options.Jitter > 0 {
				due = due.Add(rand.N(l.options.Jitter))
			}
			if due.Before(last) {
				due = last
			}
			last = due
			select {
			case parcels <- parcel{data[:n], due}:
			case <-ctx.Done():
				return
			}
		}
		if err != nil { // an end, or a reset that the other side learns as an end
			return
		}
	}
}

// unload delivers parcels when they are due; false when the far end is gone.
func (l *Link) unload(ctx context.Context, way *lane, to net.Conn, parcels <-chan parcel) bool {
	for p := range parcels {
		if !pause(ctx, time.Until(p.due)) || !l.flowing(ctx) {
			return false
		}
		if _, err := to.Write(p.data); err != nil {
			return false
		}
		way.bytes.Add(int64(len(p.data)))
	}
	if !l.flowing(ctx) {
		return false
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		return tcp.CloseWrite() == nil
	}
	return true
}

// send is when the lane has sent n more bytes.
func (w *lane) send(now time.Time, n int, rate int64) time.Time {
	if rate == 0 {
		return now
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.free.Before(now) {
		w.free = now
	}
	w.free = w.free.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return w.free
}
