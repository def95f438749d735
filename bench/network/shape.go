package network

import (
	"context"
	"encoding/json"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
)

// Shape is what the data link can do.
type Shape struct {
	Name           string
	BytesPerSecond int64         // each way; 0: whatever it does
	Delay          time.Duration // one way
}

// The shapes that figures are taken at.
func Plain() Shape   { return Shape{Name: "loopback"} }
func Gigabit() Shape { return Shape{Name: "1 Gbit/s", BytesPerSecond: 125_000_000} }
func Wide() Shape {
	return Shape{Name: "100 Mbit/s, 40 ms", BytesPerSecond: 12_500_000, Delay: 20 * time.Millisecond}
}

// Join gives the data link another shape. Connections over it break, or hang for a
// moment; addresses stay.
func (n *Network) Join(ctx context.Context, shape Shape) error {
	if n.shape == shape {
		return nil
	}
	if err := n.part(ctx); err != nil {
		return err
	}
	lay := n.layPair
	if shape.Delay > 0 {
		lay = n.layDelayed
	}
	if err := lay(ctx, shape); err != nil {
		return err
	}
	n.shape = shape
	return nil
}

// part takes the link away.
func (n *Network) part(ctx context.Context) error {
	defer func() { n.shape = Shape{} }()
	if n.wan != nil {
		err := n.wan.close()
		n.wan = nil
		return err
	}
	if n.shape.Name == "" {
		return nil
	}
	return run(ctx, "ip", "-n", n.Sites[0].namespace, "link", "del", data)
}

// layPair joins the sites by a veth pair.
func (n *Network) layPair(ctx context.Context, shape Shape) error {
	one, two := n.Sites[0].namespace, n.Sites[1].namespace
	if err := run(ctx, "ip", "link", "add", data, "netns", one, "type", "veth", "peer", "name", data, "netns", two); err != nil {
		return err
	}
	for _, s := range n.Sites {
		queue := []string{"tc", "-n", s.namespace, "qdisc", "add", "dev", data, "root", "pfifo", "limit", "10000"}
		if shape.BytesPerSecond > 0 {
			queue = []string{"tc", "-n", s.namespace, "qdisc", "add", "dev", data, "root", "tbf",
				"rate", strconv.FormatInt(8*shape.BytesPerSecond, 10) + "bit", "burst", "256kb", "latency", "50ms"}
		}
		if err := all(ctx, queue,
			[]string{"ip", "-n", s.namespace, "addr", "add", s.Address + "/24", "dev", data},
			[]string{"ip", "-n", s.namespace, "link", "set", data, "up"}); err != nil {
			return err
		}
	}
	return nil
}

// layDelayed joins them by two TUN devices and a forwarder.
func (n *Network) layDelayed(ctx context.Context, shape Shape) error {
	w, err := openWAN(n.Sites, shape)
	if err != nil {
		return err
	}
	n.wan = w
	for i, s := range n.Sites {
		if err := all(ctx,
			[]string{"ip", "-n", s.namespace, "addr", "add", s.Address, "peer", n.Sites[1-i].Address, "dev", data},
			[]string{"ip", "-n", s.namespace, "link", "set", data, "up", "txqueuelen", "1000"},
			[]string{"tc", "-n", s.namespace, "qdisc", "add", "dev", data, "root", "pfifo", "limit", "1000"}); err != nil {
			return err
		}
	}
	return nil
}

// Count is bytes that were put on wires, since they were laid.
type Count struct {
	Data    int64 // between the sites, both ways
	Control int64 // between sites and controller, both ways
}

// All is both together.
func (c Count) All() int64 { return c.Data + c.Control }

// Since is what was added after an earlier count.
func (c Count) Since(before Count) Count {
	return Count{Data: c.Data - before.Data, Control: c.Control - before.Control}
}

// Count reads the counters. It takes some milliseconds.
func (n *Network) Count(ctx context.Context) (c Count, err error) {
	for i, s := range n.Sites {
		for _, q := range []struct {
			of  []string
			add *int64
		}{
			{[]string{"-n", s.namespace, "-s", "-j", "qdisc", "show", "dev", data}, &c.Data},
			{[]string{"-n", s.namespace, "-s", "-j", "qdisc", "show", "dev", control}, &c.Control},
			{[]string{"-s", "-j", "qdisc", "show", "dev", n.lines[i]}, &c.Control},
		} {
			sent, err := queued(ctx, q.of)
			if err != nil {
				return c, err
			}
			*q.add += sent
		}
	}
	return c, nil
}

func queued(ctx context.Context, args []string) (int64, error) {
	const op = "count wire bytes"
	out, err := exec.CommandContext(ctx, "tc", args...).Output()
	if err != nil {
		return 0, homeward.Errorf(op, homeward.IO, "tc "+strings.Join(args, " "), "install a newer iproute2", "%w", err)
	}
	var queues []struct {
		Root  bool  `json:"root"`
		Bytes int64 `json:"bytes"`
	}
	if err := json.Unmarshal(out, &queues); err != nil {
		return 0, homeward.Errorf(op, homeward.Unsupported, "tc -j", "install a newer iproute2", "%w", err)
	}
	for _, q := range queues {
		if q.Root {
			return q.Bytes, nil
		}
	}
	return 0, homeward.Errorf(op, homeward.Unsupported, "tc -j", "install a newer iproute2", "no root queue in %s", out)
}
