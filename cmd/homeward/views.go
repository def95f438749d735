package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/nbd"
)

// viewSocket is the NBD socket of a master target, where its views are served.
const viewSocket = "views.sock"

// views serves a master target's points over NBD, at one unix socket.
type views struct {
	server *nbd.Server
	socket string
	log    *slog.Logger
	served chan struct{} // closed when serving has ended; nil: not begun
}

func newViews(sockets string, log *slog.Logger) *views {
	return &views{server: nbd.NewServer(nbd.ServerOptions{Log: log}), socket: filepath.Join(sockets, viewSocket), log: log}
}

func (v *views) uri(export string) string { return nbd.UnixURI(v.socket, export).String() }

// serve begins to take guests. Call it once the master target is open: its lock
// says that a socket that is there already was left by a kill, and a guest that
// comes back finds its disks.
func (v *views) serve() error {
	const op = "serve views"
	if err := os.MkdirAll(filepath.Dir(v.socket), 0o700); err != nil {
		return durable.SystemError(op, filepath.Dir(v.socket), err)
	}
	if err := os.Remove(v.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return durable.SystemError(op, v.socket, err)
	}
	ln, err := net.Listen("unix", v.socket)
	if err != nil {
		return homeward.Errorf(op, homeward.Unavailable, v.socket, "check the directory given with --sockets", "%w", err)
	}
	v.served = make(chan struct{})
	go func() {
		defer close(v.served)
		if err := v.server.Serve(context.Background(), ln); err != nil { // until close
			v.log.Error("guests are not served any more", "error", err)
		}
	}()
	return nil
}

// close lets requests in progress finish until ctx ends.
func (v *views) close(ctx context.Context) error {
	err := v.server.Close(ctx)
	if v.served != nil {
		<-v.served
	}
	return err
}
