package member

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/homeward-dr/homeward"
)

const (
	defaultTry = 10 * time.Second
	maxTries   = 16 // at once
	maxWhy     = 1 << 10
)

// Prober implements homeward.Prober where it runs. Safe for concurrent use; at most 16
// tries run at once, more are Busy.
type Prober struct {
	// Commands are the programs that may be run, by absolute path, with any arguments;
	// none: no command is.
	Commands []string

	tries chan struct{}
}

var _ homeward.Prober = (*Prober)(nil)

// NewProber makes a prober that may run these commands.
func NewProber(commands ...string) *Prober {
	return &Prober{Commands: commands, tries: make(chan struct{}, maxTries)}
}

// Try implements homeward.Prober.
func (p *Prober) Try(ctx context.Context, req homeward.TryRequest) (homeward.TryReport, error) {
	if err := req.Validate(); err != nil {
		return homeward.TryReport{}, err
	}
	if len(req.Command) > 0 && !slices.Contains(p.Commands, req.Command[0]) {
		return homeward.TryReport{}, homeward.Errorf("try machine", homeward.Forbidden, req.Command[0],
			"start the site's configuration server with --allow-probe-command "+req.Command[0], "this site does not run it for the vault")
	}
	select {
	case p.tries <- struct{}{}:
		defer func() { <-p.tries }()
	default:
		return homeward.TryReport{}, homeward.Errorf("try machine", homeward.Busy, "", "try again", "%d tries run already", maxTries)
	}
	if req.Timeout == 0 {
		req.Timeout = defaultTry
	}
	bounded, cancel := context.WithTimeout(ctx, req.Timeout)
	defer cancel()
	err := try(bounded, req)
	switch {
	case err == nil:
		return homeward.TryReport{Up: true}, nil
	case ctx.Err() != nil: // the caller gave up: nothing is known
		return homeward.TryReport{}, ctx.Err()
	case homeward.KindOf(err) == homeward.Forbidden:
		return homeward.TryReport{}, err
	}
	why := err.Error()
	return homeward.TryReport{Why: strings.ToValidUTF8(why[:min(len(why), maxWhy)], "")}, nil
}

func try(ctx context.Context, req homeward.TryRequest) error {
	switch {
	case req.TCP != "":
		conn, err := dialer().DialContext(ctx, "tcp", req.TCP)
		if err != nil {
			return err
		}
		return conn.Close()
	case req.HTTP != "":
		return getOK(ctx, req.HTTP)
	}
	return run(ctx, req.Command)
}

// dialer refuses link-local addresses: they are where clouds hand out the credentials of
// the host that asks, and names must not lead there either.
func dialer() *net.Dialer {
	return &net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err == nil && at.Addr().Unmap().IsLinkLocalUnicast() {
			err = homeward.Errorf("try machine", homeward.Forbidden, address, "probe an address that the machine has in its network", "it is a link-local one")
		}
		return err
	}}
}

// getOK asks a URL; whoever serves it need not have a certificate that is known here:
// that it answers is all that is asked.
func getOK(ctx context.Context, target string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, DialContext: dialer().DialContext} //nolint:gosec // see above
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("%s answers %s", target, resp.Status)
	}
	return nil
}

// run runs a command in a process group of its own, of which nothing is left when the
// time is over.
func run(ctx context.Context, words []string) error {
	said := &tail{}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...) //nolint:gosec // allowed by who started this node
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("%s has not ended in time", words[0])
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s ended with %s: %s", words[0], exit.ProcessState, bytes.TrimSpace(said.end))
	}
	return err
}

// tail keeps the end of what is written.
type tail struct{ end []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.end = append(t.end, p...)
	if len(t.end) > maxWhy/2 {
		t.end = append([]byte(nil), t.end[len(t.end)-maxWhy/2:]...)
	}
	return len(p), nil
}
