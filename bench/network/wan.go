package network

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
)

const (
	maxPacket = 1500
	// underWay bounds the packets of one direction in the forwarder: 1.5 KiB each.
	underWay = 4096
	// patience is how long a packet waits for its turn at most; one that would wait
	// longer is dropped, as the tail of a router's queue is.
	patience = 200 * time.Millisecond
)

// wan is a link with a delay: what one device sends leaves the other at the shape's
// rate and the delay later.
type wan struct {
	tuns       [2]*os.File
	cancel     context.CancelFunc
	forwarding sync.WaitGroup
}

// openWAN makes a TUN device in each site and forwards between them until close.
func openWAN(sites [2]*Site, shape Shape) (*wan, error) {
	w := &wan{}
	for i, s := range sites {
		err := s.Do(func() (err error) {
			w.tuns[i], err = openTUN(data)
			return err
		})
		if err != nil {
			return nil, errors.Join(homeward.Errorf("make network", homeward.IO, "TUN device of "+s.Name, "see that this kernel has TUN devices", "%w", err), w.close())
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	for i := range w.tuns {
		way := &lane{from: w.tuns[i], to: w.tuns[1-i], shape: shape, packets: make(chan packet, underWay)}
		w.forwarding.Go(way.load)
		w.forwarding.Go(func() { way.deliver(ctx) })
	}
	return w, nil
}

func (w *wan) close() (err error) {
	if w.cancel != nil {
		w.cancel()
	}
	for _, tun := range w.tuns {
		if tun != nil {
			err = errors.Join(err, tun.Close()) // ends reading, and removes the device
		}
	}
	w.forwarding.Wait()
	return err
}

// openTUN makes a device in the calling thread's namespace.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "tun "+name), nil
}

type packet struct {
	data []byte
	due  time.Time // when it arrives
}

// lane is one direction.
type lane struct {
	from, to *os.File
	shape    Shape
	packets  chan packet
	buffers  sync.Pool
}

// load reads packets and gives each its time of arrival, until the device is gone.
func (l *lane) load() {
	defer close(l.packets)
	var free time.Time // when the line has sent everything before
	for {
		buf, ok := l.buffers.Get().(*[maxPacket]byte)
		if !ok {
			buf = new([maxPacket]byte)
		}
		n, err := l.from.Read(buf[:])
		if err != nil {
			return
		}
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if free.Sub(now) > patience {
			l.buffers.Put(buf)
			continue
		}
		if l.shape.BytesPerSecond > 0 {
			free = free.Add(time.Duration(n) * time.Second / time.Duration(l.shape.BytesPerSecond))
		}
		select {
		case l.packets <- packet{buf[:n], free.Add(l.shape.Delay)}:
		default: // full: dropped
			l.buffers.Put(buf)
		}
	}
}

// deliver writes each packet at its time.
func (l *lane) deliver(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for p := range l.packets {
		if wait := time.Until(p.due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() == nil {
			_, _ = l.to.Write(p.data) // a device that is down loses packets, as a line does
		}
		if buf := p.data[:cap(p.data)]; len(buf) == maxPacket {
			l.buffers.Put((*[maxPacket]byte)(buf))
		}
	}
}
