package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net"
	"time"

	"github.com/homeward-dr/homeward"
)

const (
	guestLine  = 1 << 20 // bytes of the longest answer read
	guestStale = 64      // answers to somebody else's questions that are skipped
)

// guestAgent speaks with the QEMU guest agent: one JSON object a line each way.
// The channel is shared with whoever asked before, so a conversation begins with
// guest-sync and skips answers until its own comes.
type guestAgent struct {
	conn net.Conn
	in   *bufio.Scanner
}

// askGuest holds one conversation.
func askGuest(ctx context.Context, socket string, talk func(*guestAgent) error) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return homeward.Errorf("ask guest agent", homeward.Unavailable, socket,
			"start qemu-guest-agent in the guest and check the path of its socket", "%w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	g := &guestAgent{conn: conn, in: bufio.NewScanner(conn)}
	g.in.Buffer(make([]byte, 0, 4096), guestLine)
	if err = g.sync(ctx); err == nil {
		err = talk(g)
	}
	return err
}

type guestAnswer struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

func (g *guestAgent) send(ctx context.Context, command string, args any) error {
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, args})
	if err == nil {
		_, err = g.conn.Write(append(line, '\n'))
	}
	if err != nil {
		return g.fail(ctx, command, err)
	}
	return nil
}

func (g *guestAgent) receive(ctx context.Context, command string) (guestAnswer, error) {
	var a guestAnswer
	if !g.in.Scan() {
		err := g.in.Err()
		if err == nil {
			err = net.ErrClosed
		}
		return a, g.fail(ctx, command, err)
	}
	// A byte 0xFF may stand before an answer: the agent's sign that it starts anew.
	line := g.in.Bytes()
	for len(line) > 0 && line[0] == 0xff {
		line = line[1:]
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return a, homeward.Errorf("ask guest agent", homeward.Corrupt, command, "check what listens on the socket", "%w", err)
	}
	return a, nil
}

func (g *guestAgent) fail(ctx context.Context, command string, err error) error {
	kind := homeward.Unavailable
	if ctx.Err() != nil {
		kind, err = homeward.KindOf(ctx.Err()), ctx.Err()
	}
	return homeward.Errorf("ask guest agent", kind, command, "see whether qemu-guest-agent runs in the guest", "%w", err)
}

// call asks and decodes the answer.
func (g *guestAgent) call(ctx context.Context, command string, into any) error {
	if err := g.send(ctx, command, nil); err != nil {
		return err
	}
	a, err := g.receive(ctx, command)
	if err != nil {
		return err
	}
	if a.Error != nil {
		return homeward.Errorf("ask guest agent", homeward.Unavailable, command, "see the guest's log",
			"%s: %.200s", a.Error.Class, a.Error.Desc)
	}
	if err := json.Unmarshal(a.Return, into); err != nil {
		return homeward.Errorf("ask guest agent", homeward.Corrupt, command, "check what listens on the socket", "%w", err)
	}
	return nil
}

func (g *guestAgent) sync(ctx context.Context) error {
	id := rand.Int64N(1 << 52)
	if err := g.send(ctx, "guest-sync", map[string]int64{"id": id}); err != nil {
		return err
	}
	for range guestStale {
		a, err := g.receive(ctx, "guest-sync")
		if err != nil {
			return err
		}
		var got int64
		if a.Error == nil && json.Unmarshal(a.Return, &got) == nil && got == id {
			return nil
		}
	}
	return homeward.Errorf("ask guest agent", homeward.Busy, "guest-sync", "end what else talks to the guest agent",
		"%d answers to other questions", guestStale)
}

func (g *guestAgent) freeze(ctx context.Context) error {
	var n int64
	if err := g.call(ctx, "guest-fsfreeze-freeze", &n); err != nil {
		return err
	}
	if n < 1 {
		return homeward.Errorf("freeze guest", homeward.Unsupported, "guest agent", "use freeze commands for this guest",
			"no file system was frozen")
	}
	return nil
}

func (g *guestAgent) still(ctx context.Context) error {
	var status string
	if err := g.call(ctx, "guest-fsfreeze-status", &status); err != nil {
		return err
	}
	if status != "frozen" {
		return homeward.Errorf("freeze guest", homeward.Conflict, "guest agent",
			"the guest thawed by itself: see its log", "status is %.40q after the cut", status)
	}
	return nil
}

func (g *guestAgent) thaw(ctx context.Context) error {
	var n int64
	return g.call(ctx, "guest-fsfreeze-thaw", &n)
}
