package main

import (
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
		remote.TLS = id.ClientTLS(pki.Agent, pki.MasterTarget)
	}
	for _, scheme := range []string{"nbd", "nbds", "nbd+unix", "nbds+unix"} {
		o[scheme] = nbd.Opener(remote)
	}
	return o
}
