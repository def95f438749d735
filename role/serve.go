package role

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/homeward-dr/homeward"
)

// Defaults of Options and HubOptions.
const (
	defaultPing    = 10 * time.Second
	defaultBackoff = 15 * time.Second
	firstBackoff   = 100 * time.Millisecond
	greetTimeout   = 10 * time.Second
)

// http2 is the one application protocol of these connections.
const http2 = "h2"

// Options are for Serve.
type Options struct {
	// Controllers are the addresses (host:port) of one controller, in order of
	// preference. One that answered is dialled again first.
	Controllers []string
	TLS         *tls.Config     // of Identity.ClientTLS(pki.Vault)
	Hello       Hello           // Protocol is filled in
	Handler     http.Handler    // AgentHandler and its like
	Member      homeward.Member // served beside it; nil: the role tells nothing of itself
	Epoch       *Epoch          // the highest that was met; nil: every epoch is taken
	Log         *slog.Logger
	// Ping is how long the controller may be silent before it is asked for a sign
	// of life, and how long it then has; 0: 10 s.
	Ping time.Duration
	// MaxBackoff is the longest pause between two attempts to dial; 0: 15 s.
	MaxBackoff time.Duration
}

func (o *Options) fill() error {
	bad := func(field, fix string) error {
		return homeward.Errorf("serve role", homeward.Invalid, field, fix, "missing or wrong")
	}
	if len(o.Controllers) == 0 {
		return bad("controllers", "give at least one host:port")
	}
	for _, addr := range o.Controllers {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return bad("controller "+addr, "give host:port")
		}
	}
	if err := o.Hello.Validate(); err != nil {
		return err
	}
	if o.TLS == nil || o.Handler == nil || o.Log == nil {
		return bad("options", "give TLS, Handler and Log")
	}
	o.TLS = o.TLS.Clone()
	o.TLS.NextProtos = []string{http2}
	o.Hello.Protocol = Protocol
	if o.Ping == 0 {
		o.Ping = defaultPing
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = defaultBackoff
	}
	return nil
}

// Serve dials the controller, at one of its addresses after the other, and serves
// its calls, again and again, until ctx ends; then it ends the calls' contexts, waits for them and returns nil. Only
// wrong options are an error: whatever happens to the controller is logged, once
// per change, and outlived.
func Serve(ctx context.Context, o Options) error {
	if err := o.fill(); err != nil {
		return err
	}
	told := make([]string, len(o.Controllers)) // the newest error of each
	at, failed, pause := 0, 0, firstBackoff
	for ctx.Err() == nil {
		l := &link{options: o, controller: o.Controllers[at]}
		err := l.run(ctx)
		if l.greeted && l.dismissed == nil { // it works: the same address again, soon
			told[at], failed, pause = "", 0, firstBackoff
		} else {
			failed++
		}
		if l.dismissed != nil { // dialling again at once would only be dismissed again
			pause = o.MaxBackoff
		}
		if text := err.Error(); text != told[at] && ctx.Err() == nil {
			o.Log.Warn("no connection to the controller", "error", err)
			told[at] = text
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2+1)): // jitter: a site's roles must not return in step
		}
		if failed > 0 {
			at = (at + 1) % len(o.Controllers)
		}
		if failed%len(o.Controllers) == 0 { // all of them
			pause = min(2*pause, o.MaxBackoff)
		}
	}
	return nil
}
