package service

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

const (
	defaultBoot = 5 * time.Minute
	maxBoot     = 24 * time.Hour
	bootEvery   = 500 * time.Millisecond
)

// checkProbe refuses, by name, a probe that cannot be made, before anything is done
// that it would have to wait for.
func checkProbe(p vault.Probe) error {
	bad := func(field, fix, format string, args ...any) error {
		return homeward.Errorf("check probe", homeward.Invalid, field, fix, format, args...)
	}
	if n := len(nonEmpty(p.TCP, p.HTTP)) + min(1, len(p.Command)); n != 1 {
		return bad("probe", "give one of tcp, http and command", "%d of them are given", n)
	}
	if p.Timeout < 0 || p.Timeout > maxBoot {
		return bad("probe.timeout", "give up to 24 h", "%v", p.Timeout)
	}
	if len(p.Command) > 0 {
		return homeward.Errorf("check probe", homeward.Unsupported, "probe.command", "use a TCP or HTTP probe, or none", "no site runs commands for the vault")
	}
	var host string
	if p.TCP != "" {
		var port string
		var err error
		host, port, err = net.SplitHostPort(p.TCP)
		if n, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || host == "" || n == 0 {
			return bad("probe.tcp", "give host:port", "%q", p.TCP)
		}
	} else {
		u, err := url.Parse(p.HTTP)
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
			return bad("probe.http", "give a URL such as http://host/health", "no such URL")
		}
		if u.User != nil { // it would be shown to everybody who may read
			return bad("probe.http", "probe what takes no password", "it holds a user or a password")
		}
		host = u.Hostname()
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLinkLocalUnicast() {
		return bad("probe", "give an address that the machine has in its network", "%s is a link-local one, which means another host to each", host)
	}
	return nil
}

// prober dials for probes. Link-local addresses are where clouds hand out the
// credentials of the host that asks: names must not lead there either.
func prober() *net.Dialer {
	return &net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err == nil && at.Addr().Unmap().IsLinkLocalUnicast() {
			err = homeward.Errorf("probe", homeward.Forbidden, address, "probe an address that the machine has in its network", "it is a link-local one")
		}
		return err
	}}
}

// awaitBoot waits until the machine answers: its agent sees it at its disks, or the
// probe that was asked for says so. A machine that does not answer in time leaves the
// job to a person.
func awaitBoot(ctx context.Context, w *work) error {
	side := w.item.Standby // failed over, not committed
	if w.item.State != recovery.FailedOver {
		side = w.item.Running
	}
	return w.booted(ctx, w.asked.Input.Probe, func(ctx context.Context) error {
		r, err := side.Agent.Report(ctx, homeward.ItemRequest{Item: w.id()})
		if err == nil && r.Clients == 0 {
			err = homeward.Errorf("wait for the machine", homeward.Unavailable, "item "+string(w.id()), "", "it is not connected to its disks")
		}
		return err
	})
}

// booted asks a probe, or what stands for none, until it says that the machine is up.
func (w *work) booted(ctx context.Context, p *vault.Probe, unless func(context.Context) error) error {
	within := defaultBoot
	ask := unless
	if p != nil {
		if p.Timeout > 0 {
			within = p.Timeout
		}
		ask = probing(*p)
	}
	bound, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := ask(bound)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if bound.Err() != nil || homeward.KindOf(err) == homeward.Unsupported {
			return w.run.Pause(fmt.Sprintf("the machine does not answer after %v: %v", within, err),
				"look at its console; then retry, skip the check, or abort and cancel the failover")
		}
		// Whoever is asked may need the time: how long it takes is the guest's.
		_ = pause(bound, bootEvery)
	}
}

// probing asks what a probe names.
func probing(p vault.Probe) func(context.Context) error {
	switch {
	case p.TCP != "":
		return func(ctx context.Context) error {
			conn, err := prober().DialContext(ctx, "tcp", p.TCP)
			if err != nil {
				return homeward.Errorf("probe", homeward.Unavailable, p.TCP, "", "%w", err)
			}
			return conn.Close()
		}
	case p.HTTP != "":
		return func(ctx context.Context) error { return getOK(ctx, p.HTTP) }
	}
	return func(context.Context) error {
		return homeward.Errorf("probe", homeward.Unsupported, "command", "use a TCP or HTTP probe, or none", "no site runs commands for the vault")
	}
}

// getOK asks a URL; whoever serves it need not have a certificate that is known here:
// that it answers is all that is asked.
func getOK(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return homeward.Errorf("probe", homeward.Unsupported, target, "give a URL such as http://host/health", "%w", err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, DialContext: prober().DialContext} //nolint:gosec // see above
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return homeward.Errorf("probe", homeward.Unavailable, target, "", "%w", err)
	}
	if err := resp.Body.Close(); err != nil {
		return homeward.Errorf("probe", homeward.Unavailable, target, "", "%w", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return homeward.Errorf("probe", homeward.Unavailable, target, "", "it answers %s", resp.Status)
	}
	return nil
}

// pause waits, but not beyond ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
