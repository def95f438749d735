package growth

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/mastertarget"
	"github.com/homeward-dr/homeward/nbd"
)

// histories measures what a day of one-second points costs a master target.
func histories(ctx context.Context, b *measure.Bench) (all []measure.Series, err error) {
	lengths := []int{3_600}
	if b.Smoke {
		lengths = []int{120}
	}
	if b.Full {
		lengths = []int{3_600, 21_600, 86_400}
	}
	for _, cuts := range lengths {
		b.Say("history of %d one-second cuts", cuts)
		s, err := measure.Alternate(ctx, 1, []measure.Label{label("figure", "history"), label("cuts", "%d", cuts)},
			measure.Contender{Name: ours, Measure: func(ctx context.Context) (measure.Values, error) { return aDay(ctx, b, cuts) }})
		if err != nil {
			return all, err
		}
		all = append(all, s)
	}
	return all, nil
}

const (
	historyDisk = 1 << 30 // bytes of the disk
	worked      = 1 << 16 // blocks that are written to: 256 MiB
	perCut      = 16      // blocks written between two cuts
)

// past is a master target that is fed with a history, faster than it happened.
type past struct {
	target  *mastertarget.Target
	clock   atomic.Int64 // nanoseconds: what the master target takes for now
	rng     *rand.Rand
	machine homeward.Machine
	at      homeward.Position
	writes  map[int64][]uint32 // per block, at which cuts it was written
	body    bytes.Buffer
	longest time.Duration // of a delta, from its sending to its being applied
	close   []func() error
}

// aDay feeds so many cuts, enforces retention every 30 of their seconds, as a master
// target does, and looks at what there is then.
func aDay(ctx context.Context, b *measure.Bench, cuts int) (v measure.Values, err error) {
	p, err := openPast(ctx, b)
	if p != nil {
		defer func() { err = errors.Join(err, p.end()) }()
	}
	if err != nil {
		return nil, err
	}
	o, err := startOwn()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	for i := range cuts {
		if err := p.step(ctx, uint32(i+1)); err != nil {
			return nil, err
		}
		if i%30 == 29 {
			if err := p.target.Thin(ctx, p.machine.Item); err != nil {
				return nil, err
			}
		}
	}
	took := time.Since(began).Seconds()
	_, peak, err := o.end()
	if err != nil {
		return nil, err
	}
	rep, err := p.target.Report(ctx, homeward.ItemRequest{Item: p.machine.Item})
	if err != nil {
		return nil, err
	}
	v = measure.Values{"seconds": took, "cuts_per_second": float64(cuts) / took, "longest_apply": p.longest.Seconds(),
		"points": float64(rep.Points), "retention_bytes": float64(rep.RetentionBytes), "written_bytes": float64(cuts) * perCut * block.Size,
		"peak_bytes": peak}
	return v, p.look(ctx, v)
}

func openPast(ctx context.Context, b *measure.Bench) (_ *past, err error) {
	dir, err := os.MkdirTemp(b.Dir, "history-")
	if err != nil {
		return nil, err
	}
	p := &past{rng: rand.New(rand.NewPCG(b.Seed, 86_400)), writes: map[int64][]uint32{},
		close: []func() error{func() error { return os.RemoveAll(dir) }},
		machine: homeward.Machine{Item: "history", Name: "history", CPUs: 1, MemoryMiB: 128, Firmware: "bios", OSFamily: "linux",
			Disks: []homeward.Disk{{ID: "history-disk", Size: historyDisk, BootOrder: 1}}}}
	p.clock.Store(time.Now().UnixNano())
	socket := filepath.Join(dir, "views.sock")
	server := nbd.NewServer(nbd.ServerOptions{})
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return p, err
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ctx, ln) }) // ends with Close; a broken one fails the reading of views
	p.close = append(p.close, func() error {
		err := server.Close(context.WithoutCancel(ctx))
		serving.Wait()
		return err
	})
	p.target, err = mastertarget.Open(ctx, mastertarget.Config{Dir: filepath.Join(dir, "target"), Openers: block.Openers{"file": block.OpenFile}, NBD: server,
		URI: func(export string) string { return nbd.UnixURI(socket, export).String() }, ThinEvery: -1,
		Now: func() time.Time { return time.Unix(0, p.clock.Load()) }})
	if err != nil {
		return p, err
	}
	p.close = append(p.close, func() error { return p.target.Close(context.WithoutCancel(ctx)) })
	g := homeward.Generation{Number: 1, ID: homeward.NewID()}
	p.at = homeward.Position{}.Base(g)
	_, err = p.target.Prepare(ctx, homeward.ReplicaRequest{Machine: p.machine, Disks: []string{"file:" + filepath.Join(dir, "replica.img")}, Create: true, Generation: g, Base: p.at})
	return p, err
}

// end closes what was opened, newest first.
func (p *past) end() (err error) {
	for i := len(p.close) - 1; i >= 0; i-- {
		err = errors.Join(err, p.close[i]())
	}
	return err
}

// step writes some blocks and sends them as the next cut, a second later.
func (p *past) step(ctx context.Context, cut uint32) error {
	p.clock.Add(int64(time.Second))
	h := delta.Header{Item: p.machine.Item, Follows: p.at, Machine: &p.machine, Disks: []delta.DiskInfo{{ID: "history-disk", Size: historyDisk}},
		To: homeward.Position{Generation: p.at.Generation, Sequence: p.at.Sequence + 1, Cut: homeward.NewID()}}
	p.body.Reset()
	e, err := delta.NewEncoder(&p.body, h, delta.EncoderOptions{Codec: delta.S2})
	if err != nil {
		return err
	}
	blocks := map[int64]bool{}
	for len(blocks) < perCut {
		blocks[p.rng.Int64N(worked)] = true
	}
	var content [block.Size]byte
	for _, at := range ascending(blocks) {
		fill(content[:], at, cut)
		if err := e.Add(0, at, content[:]); err != nil {
			return err
		}
		p.writes[at] = append(p.writes[at], cut)
	}
	trailer, err := e.Close(homeward.Mark{Kind: homeward.MarkCrash, At: time.Unix(0, p.clock.Load()).UTC()})
	if err != nil {
		return err
	}
	began := time.Now()
	ack, err := p.target.Put(ctx, p.machine.Item, bytes.NewReader(p.body.Bytes()))
	if err != nil {
		return err
	}
	p.longest = max(p.longest, time.Since(began))
	p.at = h.Position(trailer)
	if ack.Position != p.at || !ack.Applied {
		return fmt.Errorf("cut %d was sent, %v was acknowledged", cut, ack)
	}
	return nil
}

func ascending(set map[int64]bool) []int64 {
	all := make([]int64, 0, len(set))
	for b := range set {
		all = append(all, b)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	return all
}

// fill makes the content that a block has from a cut on.
func fill(content []byte, at int64, cut uint32) {
	rng := rand.New(rand.NewPCG(uint64(at), uint64(cut)))
	for i := 0; i < len(content); i += 8 {
		binary.LittleEndian.PutUint64(content[i:], rng.Uint64())
	}
}

// look lists the points, opens the oldest, one in the middle and the newest, and
// compares all their bytes with what was written.
func (p *past) look(ctx context.Context, v measure.Values) error {
	began := time.Now()
	list, err := p.target.Points(ctx, homeward.ItemRequest{Item: p.machine.Item})
	if err != nil {
		return err
	}
	v["list"] = time.Since(began).Seconds()
	sort.Slice(list.Points, func(i, j int) bool { return list.Points[i].Position.Sequence < list.Points[j].Position.Sequence })
	for name, at := range map[string]int{"oldest": 0, "middle": len(list.Points) / 2, "newest": len(list.Points) - 1} {
		if v["view_"+name], err = p.open(ctx, name, list.Points[at].Position); err != nil {
			return fmt.Errorf("the %s point: %w", name, err)
		}
	}
	return nil
}

// open opens a point: how long until its first MiB was read. All of it is compared.
func (p *past) open(ctx context.Context, name string, at homeward.Position) (seconds float64, err error) {
	req := homeward.ViewRequest{Item: p.machine.Item, Name: name, Kind: homeward.ViewReadOnly, Point: at}
	began := time.Now()
	view, err := p.target.OpenView(ctx, req)
	if err != nil {
		return 0, err
	}
	c, err := nbd.Dial(ctx, nbd.ClientOptions{URI: view.Disks[0].URI})
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, c.Close())
		_, e := p.target.CloseView(ctx, req)
		err = errors.Join(err, e)
	}()
	chunk := make([]byte, 1<<20)
	if _, err := c.ReadAt(chunk, 0); err != nil {
		return 0, err
	}
	seconds = time.Since(began).Seconds()
	want := make([]byte, block.Size)
	for off := int64(0); off < worked*block.Size; off += int64(len(chunk)) {
		if _, err := c.ReadAt(chunk, off); err != nil {
			return 0, err
		}
		for i := 0; i < len(chunk); i += block.Size {
			no := (off + int64(i)) / block.Size
			clear(want)
			if cut := p.last(no, at.Sequence); cut > 0 {
				fill(want, no, cut)
			}
			if !bytes.Equal(chunk[i:i+block.Size], want) {
				return 0, fmt.Errorf("block %d is not what it was at cut %d", no, at.Sequence)
			}
		}
	}
	return seconds, nil
}

// last is the newest cut up to one at which a block was written; 0: none.
func (p *past) last(no int64, upTo uint64) uint32 {
	w := p.writes[no]
	i := sort.Search(len(w), func(i int) bool { return uint64(w[i]) > upTo })
	if i == 0 {
		return 0
	}
	return w[i-1]
}
