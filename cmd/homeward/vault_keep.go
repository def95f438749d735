package main

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/service"
	"github.com/homeward-dr/homeward/wire"
)

// firstToken is the name of the administrator's token that init makes.
const firstToken = "admin"

func (c *command) vaultInit() *cobra.Command {
	var f vaultFlags
	cmd := &cobra.Command{Use: "init --dir DIR", Short: "Set a vault up: its authority, its identity, its store and the first administrator's token", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.initVault(cmd.Context(), f) }}
	f.register(cmd)
	f.registerIdentity(cmd)
	return cmd
}

// initVault may be called again until it has succeeded once.
func (c *command) initVault(ctx context.Context, f vaultFlags) (err error) {
	if err := f.validate(); err != nil {
		return err
	}
	if err := durable.OS().MkdirAll(f.dir, 0o700); err != nil {
		return homeward.Errorf("set up vault", homeward.IO, f.dir, "make its parent writable", "%w", err)
	}
	authority, err := f.openAuthority()
	if homeward.KindOf(err) == homeward.NotFound {
		authority, err = f.makeAuthority()
	}
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Config{URL: f.store, Log: c.logger()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := s.Tokens.Get(ctx, firstToken); homeward.KindOf(err) != homeward.NotFound {
		return errors.Join(err, homeward.Errorf("set up vault", homeward.Exists, f.dir,
			"start it: 'homeward vault --dir "+f.dir+"'; more tokens are made with 'homeward token create', at the vault itself without one", "it is set up already"))
	}
	if err := f.issueIdentity(authority); err != nil {
		return err
	}
	svc, err := service.Open(ctx, service.Options{Store: s, Log: c.logger()})
	if err != nil {
		return err
	}
	own := vault.WithCaller(ctx, vault.Caller{Name: "local", Access: vault.Administrator, From: "vault init"})
	token, err := svc.CreateToken(own, vault.TokenRequest{Name: firstToken, Access: vault.Administrator})
	if err != nil {
		return err
	}
	if err := f.warnOfKey(c.logger()); err != nil {
		return err
	}
	pin := authority.Fingerprint()
	told := map[string]string{"dir": f.dir, "token": token.Secret, "fingerprint": hex.EncodeToString(pin[:])}
	return c.print(told, "the vault is set up in %s\n\nadministrator's token, told only this once:\n  %s\nfingerprint of its authority:\n  %s\n\nKeep a copy of %s safe: without it no node trusts a restored vault. Its private key is encrypted: keep a copy of the key to it elsewhere (%s, unless a credential or %s gave it).",
		f.dir, token.Secret, told["fingerprint"], f.path(vaultCA), f.sealing, pki.SealingVariable)
}

func (c *command) vaultBackup() *cobra.Command {
	var f vaultFlags
	cmd := &cobra.Command{Use: "backup --dir DIR --out FILE", Short: "Back the vault's store up, also while the vault runs", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.backupVault(cmd.Context(), f) }}
	f.register(cmd)
	cmd.Flags().StringVar(&f.backup, "out", "", "`file` to write the backup to")
	return cmd
}

// backupVault writes to a new file that takes its name when it is whole.
func (c *command) backupVault(ctx context.Context, f vaultFlags) error {
	if err := f.validate(); err != nil {
		return err
	}
	if err := required("--out", f.backup, "the file to write the backup to"); err != nil {
		return err
	}
	file, err := durable.Create(durable.OS(), f.backup, 0o600)
	if err != nil {
		return err
	}
	if err := writeBackup(ctx, f, file, c.logger()); err != nil {
		return errors.Join(err, file.Abort())
	}
	if err := file.Commit(); err != nil {
		return err
	}
	return c.print(map[string]string{"backup": f.backup}, "backed up to %s; neither the authority in %s is in it nor the key that this is sealed with: keep copies of them too, not in one place", f.backup, f.path(vaultCA))
}

// writeBackup asks the vault that runs, which alone has the store; if none does, the
// store is read here.
func writeBackup(ctx context.Context, f vaultFlags, to io.Writer, log *slog.Logger) (err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", f.path(vaultKeeper))
	if err == nil {
		defer func() { _ = conn.Close() }() // closed with the answer
		return backupFrom(ctx, conn, to)
	}
	s, err := store.Open(ctx, store.Config{URL: f.store, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Backup(ctx, to)
}

func backupFrom(ctx context.Context, conn net.Conn, to io.Writer) error {
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://vault/backup", nil)
	if err != nil {
		return homeward.Errorf("back up", homeward.Internal, "", "", "%w", err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return homeward.Errorf("back up", homeward.Unavailable, "vault", "try again", "%w", err)
	}
	defer func() { _ = resp.Body.Close() }() // read whole, or given up
	if resp.StatusCode != http.StatusOK {
		var none struct{}
		return wire.ReadDocument(resp, 1<<20, &none)
	}
	if _, err := copyAll(to, resp.Body); err != nil {
		return err
	}
	if why := resp.Trailer.Get(backupTrailer); why != "" {
		return homeward.Errorf("back up", homeward.IO, "vault", "see the vault's log, and try again", "%s", why)
	}
	return nil
}

// backupTrailer says what went wrong after the first byte was sent; empty: nothing.
const backupTrailer = "X-Homeward-Failed"

// serveKeeper answers who looks after the vault at its own host.
func serveKeeper(ctx context.Context, s *store.Store, ln net.Listener, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /backup", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", backupTrailer)
		w.Header().Set(backupTrailer, "")
		if err := s.Backup(r.Context(), w); err != nil {
			w.Header().Set(backupTrailer, err.Error())
			log.Warn("a backup was not made", "error", err)
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(ln)
	if ctx.Err() != nil {
		return nil
	}
	return homeward.Errorf("serve keeper", homeward.IO, ln.Addr().String(), "start the vault again", "%w", err)
}

func (c *command) vaultRestore() *cobra.Command {
	var f vaultFlags
	cmd := &cobra.Command{Use: "restore --dir DIR --from FILE", Short: "Fill an empty store from a backup; the vault is read-only until it is reconciled", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.restoreVault(cmd.Context(), f) }}
	f.register(cmd)
	cmd.Flags().StringVar(&f.from, "from", "", "`file` with the backup")
	return cmd
}

func (c *command) restoreVault(ctx context.Context, f vaultFlags) (err error) {
	if err := f.validate(); err != nil {
		return err
	}
	if err := required("--from", f.from, "the file with the backup"); err != nil {
		return err
	}
	if err := durable.OS().MkdirAll(f.dir, 0o700); err != nil {
		return homeward.Errorf("restore vault", homeward.IO, f.dir, "make its parent writable", "%w", err)
	}
	file, err := os.Open(f.from)
	if err != nil {
		return homeward.Errorf("restore vault", homeward.NotFound, f.from, "name a file that 'homeward vault backup' wrote", "%w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := store.Restore(ctx, store.Config{URL: f.store, Log: c.logger()}, file); err != nil {
		return err
	}
	return c.print(map[string]string{"restored": f.from}, "restored %s; start the vault with the authority it had and the key that this is sealed with. Until it is reconciled, API tokens of the backup are not taken: at this host, where root needs none, delete the tokens that were deleted since the backup ('homeward token list'), see 'homeward status', and run 'homeward reconcile' when all nodes have reported. Nodes that were revoked since stay out: the authority's list and every node remember them", f.from)
}
