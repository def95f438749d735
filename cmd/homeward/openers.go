package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/pki"
)

// reconnectDeadline is how long a disk behind NBD may be away before its
// requests fail: a restart of its server is a pause.
const reconnectDeadline = 30 * time.Second

// openers open files, devices and NBD exports. id may be nil: then there is no
// NBD over TLS.
func openers(id *pki.Identity, log *slog.Logger) block.Openers {
	o := block.LocalOpeners()
	remote := nbd.ClientOptions{ReconnectDeadline: reconnectDeadline, Log: log}
	if id != nil {
		remote.TLS, remote.Watch = id.ClientTLS(pki.Agent, pki.MasterTarget), id.Watch
	}
	for _, scheme := range []string{"nbd", "nbds", "nbd+unix", "nbds+unix"} {
		o[scheme] = func(ctx context.Context, ref string, m block.Mode) (block.Disk, error) {
			return nbd.Opener(namedBy(ref, remote))(ctx, ref, m)
		}
	}
	return o
}

// namedBy demands the node that a reference names before the '@', if it does.
func namedBy(ref string, o nbd.ClientOptions) nbd.ClientOptions {
	if u, err := nbd.ParseURI(ref); err == nil && u.TLS && o.TLS != nil { // an error is told by who opens it
		o.TLS = pki.Named(o.TLS, u.User)
	}
	return o
}
