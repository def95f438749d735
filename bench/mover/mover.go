// Package mover is two processes that move bytes and do nothing else: Homeward's
// transport (package ship) beside bare HTTP/1.1, both over mutual TLS 1.3, with bodies
// of the same size and as many at once. The processes are this program again, told by
// its environment what to be; a program that uses the package begins with Main.
package mover

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/ship"
)

// The protocols.
const (
	Ship = "ship" // Homeward's
	Bare = "http"
)

const (
	variable = "HOMEWARD_BENCH_MOVER" // "receive ship DIR ADDRESS" or "send http DIR ADDRESS BYTES"
	body     = 8 << 20                // as agents make deltas
	atOnce   = 3                      // as agents have under way
)

// Identities makes those of both processes in a directory.
func Identities(dir string) error {
	a, err := pki.CreateAuthority(durable.OS(), dir+"/authority", "homeward bench")
	if err != nil {
		return err
	}
	for role, name := range map[pki.Role]string{pki.MasterTarget: "receive", pki.ProcessServer: "send"} {
		if err := a.Issue(pki.Request{Peer: pki.Peer{Role: role, Name: name}}, dir+"/"+name); err != nil {
			return err
		}
	}
	return nil
}

// Receive is the program that takes what Send sends, until it is ended.
func Receive(ctx context.Context, protocol, dir, address string) (*exec.Cmd, error) {
	return again(ctx, "receive", protocol, dir, address)
}

// Send is the program that sends some bytes to an address, rounded up to whole bodies.
func Send(ctx context.Context, protocol, dir, address string, bytes int64) (*exec.Cmd, error) {
	return again(ctx, "send", protocol, dir, address, strconv.FormatInt(bytes, 10))
}

func again(ctx context.Context, what ...string) (*exec.Cmd, error) {
	if os.Getenv(variable) != "" {
		return nil, errors.New("this process was started to move bytes: its program does not begin with mover.Main")
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), variable+"="+strings.Join(what, " "))
	return cmd, nil
}

// Main does the work where this process is one of the two, and does not return then.
func Main() {
	what := strings.Fields(os.Getenv(variable))
	if len(what) == 0 {
		return
	}
	if err := work(context.Background(), what); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "mover:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func work(ctx context.Context, what []string) error {
	switch {
	case len(what) == 4 && what[0] == "receive":
		return receive(ctx, what[1], what[2], what[3])
	case len(what) == 5 && what[0] == "send":
		n, err := strconv.ParseInt(what[4], 10, 64)
		if err != nil {
			return err
		}
		return send(ctx, what[1], what[2], what[3], n)
	}
	return fmt.Errorf("%s=%q", variable, strings.Join(what, " "))
}

// forget is a sink that reads deltas and keeps nothing.
type forget struct{}

func (forget) Put(_ context.Context, _ homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	return homeward.Ack{Applied: true}, drain(body)
}

func (forget) Standing(context.Context, homeward.StandingRequest) (homeward.Standing, error) {
	return homeward.Standing{}, nil
}

// drain reads all through a buffer of the size that a master target reads through.
func drain(r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, 64<<10))
	return err
}

func receive(ctx context.Context, protocol, dir, address string) error {
	id, err := pki.LoadIdentity(durable.OS(), dir+"/receive")
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	config := id.ServerTLS(pki.ProcessServer)
	if protocol == Ship {
		return ship.Serve(ctx, ship.NewServer(ship.NewHandler(forget{}, nil), config, slog.New(slog.DiscardHandler)), l)
	}
	s := &http.Server{Protocols: one(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := drain(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})}
	return s.Serve(tls.NewListener(l, config))
}

// one is HTTP/1.1 and nothing else.
func one() *http.Protocols {
	p := &http.Protocols{}
	p.SetHTTP1(true)
	return p
}

func send(ctx context.Context, protocol, dir, address string, n int64) error {
	id, err := pki.LoadIdentity(durable.OS(), dir+"/send")
	if err != nil {
		return err
	}
	url, config := "https://"+address, id.ClientTLS(pki.MasterTarget)
	var put func(content []byte) error
	if protocol == Ship {
		c := ship.NewClient(url, ship.ClientOptions{TLS: config})
		defer func() { _ = c.Close() }() // everything was answered
		put = func(content []byte) error {
			_, err := c.Put(ctx, "web01", bytes.NewReader(content))
			return err
		}
	} else {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: config, Protocols: one(), MaxIdleConnsPerHost: atOnce}}
		put = func(content []byte) error { return post(ctx, c, url, content) }
	}
	content := make([]byte, body)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content) // never fails
	g, _ := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for ; n > 0; n -= body {
		g.Go(func() error { return put(content) })
	}
	return g.Wait()
}

func post(ctx context.Context, c *http.Client, url string, content []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(content))
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	err = errors.Join(drain(resp.Body), resp.Body.Close())
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return err
}
