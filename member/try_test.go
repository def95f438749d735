package member

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
)

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "probe")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProber(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer web.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	up, down := script(t, `[ "$1" = "two words" ] && [ -z "$HOME" ]`), script(t, "echo not yet >&2; exit 3")
	slow := script(t, "sleep 60 & sleep 60")
	p := NewProber(up, down, slow)
	for name, c := range map[string]struct {
		req homeward.TryRequest
		why string // empty: up
	}{
		"tcp":             {homeward.TryRequest{TCP: ln.Addr().String()}, ""},
		"tcp refused":     {homeward.TryRequest{TCP: strings.TrimPrefix(gone.URL, "http://")}, "refused"},
		"http":            {homeward.TryRequest{HTTP: web.URL + "/health"}, ""},
		"http not ready":  {homeward.TryRequest{HTTP: web.URL}, "503"},
		"command":         {homeward.TryRequest{Command: []string{up, "two words"}}, ""},
		"command fails":   {homeward.TryRequest{Command: []string{down}}, "exit status 3: not yet"},
		"command hangs":   {homeward.TryRequest{Command: []string{slow}, Timeout: 50 * time.Millisecond}, "not ended in time"},
		"command is gone": {homeward.TryRequest{Command: []string{up}}, "exit status 1"},
	} {
		r, err := p.Try(t.Context(), c.req)
		if err != nil || r.Up != (c.why == "") || !strings.Contains(r.Why, c.why) {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
}

func TestProber_Refuses(t *testing.T) {
	p := NewProber("/usr/bin/true")
	for _, c := range []struct {
		req  homeward.TryRequest
		kind homeward.Kind
	}{
		{homeward.TryRequest{}, homeward.Invalid},
		{homeward.TryRequest{TCP: "h:1", HTTP: "http://h"}, homeward.Invalid},
		{homeward.TryRequest{TCP: "h"}, homeward.Invalid},
		{homeward.TryRequest{TCP: "169.254.169.254:80"}, homeward.Invalid},
		{homeward.TryRequest{HTTP: "ftp://h"}, homeward.Invalid},
		{homeward.TryRequest{HTTP: "http://u:p@h"}, homeward.Invalid},
		{homeward.TryRequest{Command: []string{"true"}}, homeward.Invalid},
		{homeward.TryRequest{Command: []string{"/usr/bin/../bin/true"}}, homeward.Invalid},
		{homeward.TryRequest{Command: []string{"/usr/bin/false"}}, homeward.Forbidden},
		{homeward.TryRequest{TCP: "h:1", Timeout: time.Hour}, homeward.Invalid},
	} {
		r, err := p.Try(t.Context(), c.req)
		if homeward.KindOf(err) != c.kind || r.Up || homeward.RemedyOf(err) == "" {
			t.Errorf("%+v: %+v %v", c.req, r, err)
		}
	}
	// A name can lead there too.
	if err := getOK(t.Context(), "http://[::ffff:169.254.169.254]/"); err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("it was asked: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := p.Try(ctx, homeward.TryRequest{Command: []string{"/usr/bin/true"}}); err == nil {
		t.Errorf("who gave up was told %+v", r)
	}
}
