package processserver

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/link"
	"github.com/homeward-dr/homeward/ship"
)

// overLink serves the rig's twin over HTTP behind a link, and lets the rig's
// server dial it there.
func (r *rig) overLink(o link.Options) *link.Link {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- ship.Serve(ctx, ship.NewServer(ship.NewHandler(r.twin, nil), nil, slog.New(slog.DiscardHandler)), l)
	}()
	o.Target = l.Addr().String()
	wan, err := link.Listen(ctx, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		r.stop()
		wan.Close()
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	r.config.Dial = func(string) homeward.Sink {
		return ship.NewClient("http://"+wan.Addr(), ship.ClientOptions{IdleTimeout: 300 * time.Millisecond})
	}
	return wan
}

// The link hangs, is cut and comes back: the agent gets spooled meanwhile, and
// everything arrives once.
func TestServer_LinkHangsAndIsCut(t *testing.T) {
	r := newRig(t)
	wan := r.overLink(link.Options{BytesPerSecond: 8 << 20, Delay: 2 * time.Millisecond})
	r.config.Grace = 20 * time.Millisecond
	r.start()
	for _, trouble := range []func(){wan.Hang, wan.Cut, wan.Hang} {
		r.mustPut(r.source.Next(t))
		trouble()
		for range 5 {
			r.mustPut(r.source.NextOfSize(t, 30))
		}
		for st := r.standing(homeward.StandingRequest{}); st.Fault == ""; {
			st = r.standing(homeward.StandingRequest{Applied: r.source.At(), Wait: 100 * time.Millisecond})
		}
		wan.Restore()
		r.mustApply()
	}
	if n := len(r.twin.Applied("web01")); n != 18 {
		t.Errorf("%d deltas were applied, 18 were put", n)
	}
}

// A cap holds for all items to a target together: over the same schedule and
// clock, twice the bytes take twice the debt. Here it is only seen to be in the
// path; its arithmetic has tests of its own.
func TestServer_LimitIsKept(t *testing.T) {
	r := newRig(t)
	r.start()
	bad := homeward.LimitRequest{Schedule: []homeward.Window{{From: "x"}}}
	if _, err := r.server.Limit(t.Context(), bad); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("bad schedule: %v", err)
	}
	if addressOf("https://m1@host:1") != "https://host:1" || addressOf(targetURL) != targetURL {
		t.Error("a cap is not for a link")
	}
	req := homeward.LimitRequest{Target: strings.Replace(targetURL, "://", "://m1@", 1), Schedule: []homeward.Window{{BytesPerSecond: 1 << 20}}}
	if _, err := r.server.Limit(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	r.crash()
	up := r.server.uplinks[targetURL]
	if got := r.server.limitOf(up); got != 1<<20 {
		t.Errorf("after a crash the cap is %d", got)
	}
	r.mustPut(r.source.Next(t))
	r.mustApply()
	if up.lane.bucket.paid.IsZero() {
		t.Error("sent without asking the bucket")
	}
}

// What random and repetitive content become on the wire.
func TestServer_Compression(t *testing.T) {
	for compression, most := range map[string]float64{"none": 1.1, "s2": 0.2, "zstd": 0.2} {
		t.Run(compression, func(t *testing.T) {
			r := newRig(t)
			r.open()
			req := homeward.RouteRequest{Item: "web01", Generation: r.gen, Target: targetURL, Compression: compression}
			if _, err := r.server.Prepare(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			d := r.source.Repetitive(t, 200)
			r.mustPut(d)
			r.mustApply()
			rep, err := r.server.Report(t.Context(), homeward.ItemRequest{Item: "web01"})
			if err != nil {
				t.Fatal(err)
			}
			if rep.PlainBytes != int64(len(d.Bytes)) || float64(rep.WireBytes) > most*float64(rep.PlainBytes) {
				t.Errorf("%d bytes came in, %d went out", rep.PlainBytes, rep.WireBytes)
			}
		})
	}
}

func TestUplink_Choose(t *testing.T) {
	for speed, want := range map[float64]string{0: "s2", 1e9: "none", 100e6: "s2", 10e6: "zstd"} {
		up := newUplink("x", nil)
		if speed > 0 {
			up.measured(int64(speed), time.Second)
		}
		if got := nameOf(up.choose("auto", 0)); got != want {
			t.Errorf("at %v bytes a second: %s, want %s", speed, got, want)
		}
		if got := nameOf(up.choose("", 1e6)); got != "zstd" {
			t.Errorf("at %v under a cap of 1 MB/s: %s", speed, got)
		}
	}
}

// nameOf tells the codec of a choice by what it does to a frame that compresses.
func nameOf(choose func(*delta.Frame) delta.Codec) string {
	if choose == nil {
		return "none"
	}
	var b, out bytes.Buffer
	disk := homeward.Disk{ID: "d", Size: 1 << 20}
	g := homeward.Generation{Number: 1, ID: homeward.NewID()}
	e, err := delta.NewEncoder(&b, delta.Header{Item: "x", Disks: []delta.DiskInfo{{ID: disk.ID, Size: disk.Size}},
		To: homeward.Position{Generation: g, Sequence: 1}, Machine: &homeward.Machine{Item: "x", Disks: []homeward.Disk{disk}}}, delta.EncoderOptions{})
	if err != nil {
		return err.Error()
	}
	if err := e.Add(0, 0, bytes.Repeat([]byte("abcdefgh"), 8<<10)); err != nil {
		return err.Error()
	}
	if _, err := e.Close(homeward.Mark{Kind: homeward.MarkCrash}); err != nil {
		return err.Error()
	}
	seen := ""
	_, _, err = delta.Recode(&out, &b, func(f *delta.Frame) delta.Codec {
		c := choose(f)
		seen = c.String()
		return c
	})
	if err != nil {
		return err.Error()
	}
	return seen
}
