package world

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/ship"
)

// Weather is how a network behaves: chances from 0 to 1 of each delta sent.
type Weather struct {
	Lost     float64       // it does not arrive
	LostAck  float64       // it arrives, and the sender is not told
	Doubled  float64       // it arrives twice
	Delayed  float64       // it waits up to Delay, so that others overtake it
	Delay    time.Duration // default 20 ms
	Remember bool          // keep deltas, so that Replay can bring them again much later
}

// Network is the hops between roles. A role is reached under its name, whichever
// process it runs in at the moment. Safe for concurrent use.
type Network struct {
	http bool

	mu      sync.Mutex
	rng     *rand.Rand
	weather Weather
	away    map[string]bool // sites that are cut off from other sites
	sinks   map[string]station
	old     []parcel

	server *http.Server
	url    string
	client map[string]*ship.Client
	serve  sync.WaitGroup
}

// station is who answers under a name now.
type station struct {
	sink homeward.Sink
	p    *Process
}

// parcel is a delta that was sent before.
type parcel struct {
	to   string
	item homeward.ItemID
	body []byte
}

const maxParcels = 64

// newNetwork makes a network; with overHTTP deltas go through the handlers and
// clients of package ship and loopback, else straight to the sink.
func newNetwork(rng *rand.Rand, overHTTP bool) (*Network, error) {
	n := &Network{http: overHTTP, rng: rng, away: map[string]bool{}, sinks: map[string]station{}, client: map[string]*ship.Client{}}
	if !overHTTP {
		return n, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/{station}/", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("station")
		http.StripPrefix("/"+name, ship.NewHandler(arrival{n, strings.Replace(name, "~", "/", 1)}, nil)).ServeHTTP(w, r)
	})
	n.url = "http://" + l.Addr().String()
	n.server = ship.NewServer(mux, nil, slog.New(slog.DiscardHandler))
	n.serve.Go(func() { _ = n.server.Serve(l) })
	return n, nil
}

func (n *Network) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, c := range n.client {
		errs = append(errs, c.Close())
	}
	if n.server != nil {
		errs = append(errs, n.server.Close())
		n.serve.Wait()
	}
	return errors.Join(errs...)
}

// URL is how a role is named in requests: of a site's "ps" or "mt".
func URL(site, role string) string { return "https://" + site + "-" + role }

// stationOf is who is at a URL, which may say by which name: nobody proves it here.
func stationOf(url string) string {
	at := strings.TrimPrefix(url, "https://")
	if _, host, named := strings.Cut(at, "@"); named {
		at = host
	}
	return strings.Replace(at, "-", "/", 1)
}

func siteOf(station string) string { return station[:strings.IndexByte(station, '/')] }

// register lets a role answer under its name.
func (n *Network) register(name string, sink homeward.Sink, p *Process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sinks[name] = station{sink, p}
}

// SetWeather changes how deltas fare from now on.
func (n *Network) SetWeather(w Weather) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w.Delay == 0 {
		w.Delay = 20 * time.Millisecond
	}
	n.weather = w
}

// CutOff takes a site off the network between sites, or puts it back.
func (n *Network) CutOff(site string, off bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away[site] = off
}

// dial is a role's Config.Dial: the way from one process to a role.
func (n *Network) dial(p *Process) func(url string) homeward.Sink {
	return func(url string) homeward.Sink { return &hop{n: n, from: p, to: stationOf(url)} }
}

func gone(to string) error {
	return homeward.Errorf("send", homeward.Unavailable, to, "wait for the network", "not reached")
}

// hop is a sink at the other end of the network.
type hop struct {
	n    *Network
	from *Process
	to   string
}

// fate is what the weather has for one delta.
type fate struct {
	lost, lostAck, doubled bool
	delay                  time.Duration
}

func (h *hop) passable() error {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	a, b := siteOf(h.from.name), siteOf(h.to)
	if !h.from.Alive() || a != b && (h.n.away[a] || h.n.away[b]) {
		return gone(h.to)
	}
	return nil
}

func (n *Network) fate() (f fate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.weather
	f.lost, f.lostAck, f.doubled = n.rng.Float64() < w.Lost, n.rng.Float64() < w.LostAck, n.rng.Float64() < w.Doubled
	if n.rng.Float64() < w.Delayed {
		f.delay = time.Duration(n.rng.Int64N(int64(w.Delay)))
	}
	return f
}

func (h *hop) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	if err := h.passable(); err != nil {
		return homeward.Ack{}, err
	}
	f := h.n.fate()
	if f.lost {
		return homeward.Ack{}, gone(h.to)
	}
	if f.delay > 0 && !pause(ctx, f.delay) {
		return homeward.Ack{}, ctx.Err()
	}
	var seen bytes.Buffer
	remember := f.doubled || h.n.remembers()
	if remember {
		body = io.TeeReader(body, &seen)
	}
	ack, err := h.deliver(ctx, item, body)
	if err == nil && remember {
		h.n.remember(parcel{h.to, item, seen.Bytes()})
	}
	if err == nil && f.doubled {
		_, _ = h.deliver(ctx, item, bytes.NewReader(seen.Bytes())) // whatever it says: nobody asked
	}
	if err == nil {
		err = h.passable() // the answer travels too
	}
	if err == nil && f.lostAck {
		err = gone(h.to)
	}
	if err != nil {
		return homeward.Ack{}, err
	}
	return ack, nil
}

func (h *hop) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	if err := h.passable(); err != nil {
		return homeward.Standing{}, err
	}
	st, err := h.sink().Standing(ctx, req)
	if err == nil {
		err = h.passable()
	}
	return st, err
}

func (h *hop) deliver(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	return h.sink().Put(ctx, item, body)
}

// sink is the far end, or the client that leads there over HTTP.
func (h *hop) sink() homeward.Sink {
	if !h.n.http {
		return arrival{h.n, h.to}
	}
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	key := h.from.name + ">" + h.to
	c := h.n.client[key]
	if c == nil {
		c = ship.NewClient(h.n.url+"/"+strings.Replace(h.to, "/", "~", 1), ship.ClientOptions{})
		h.n.client[key] = c
	}
	return c
}

// arrival is who answers under a name; a process that dies amid a call never answers.
type arrival struct {
	n  *Network
	to string
}

func (a arrival) station() (station, error) {
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	s, ok := a.n.sinks[a.to]
	if !ok || !s.p.Alive() {
		return s, gone(a.to)
	}
	return s, nil
}

func (a arrival) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	s, err := a.station()
	if err != nil {
		return homeward.Ack{}, err
	}
	ack, err := s.sink.Put(ctx, item, body)
	if !s.p.Alive() {
		return homeward.Ack{}, gone(a.to)
	}
	return ack, err
}

func (a arrival) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	s, err := a.station()
	if err != nil {
		return homeward.Standing{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan struct{})
	defer close(answered)
	go func() { // a connection to a process that dies is reset
		select {
		case <-s.p.died:
			cancel()
		case <-answered:
		}
	}()
	st, err := s.sink.Standing(ctx, req)
	if !s.p.Alive() {
		return homeward.Standing{}, gone(a.to)
	}
	return st, err
}

func (n *Network) remembers() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.weather.Remember
}

func (n *Network) remember(p parcel) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.old) < maxParcels {
		n.old = append(n.old, p)
		return
	}
	n.old[n.rng.IntN(len(n.old))] = p
}

// Replay brings a few deltas of long ago again, to where they went. What the sinks
// say to it is their business: nothing may change.
func (n *Network) Replay(ctx context.Context, count int) {
	for range count {
		n.mu.Lock()
		if len(n.old) == 0 {
			n.mu.Unlock()
			return
		}
		p := n.old[n.rng.IntN(len(n.old))]
		n.mu.Unlock()
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		_, _ = arrival{n, p.to}.Put(short, p.item, bytes.NewReader(p.body))
		cancel()
	}
}

// pause returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
