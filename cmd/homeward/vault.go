package main

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/api"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/enrol"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/fleet"
	"github.com/homeward-dr/homeward/vault/service"
)

// The vault's directory.
const (
	vaultCA       = "ca"            // its authority
	vaultIdentity = "identity"      // its own identity
	vaultStore    = "vault.db"      // where --store does not say otherwise
	vaultSealing  = "authority.key" // where --sealing-key does not say otherwise
	vaultAPI      = "api.sock"      // for root and the vault's own user: no token is asked for
	vaultKeeper   = "keeper.sock"
)

// vaultFlags are the flags of the vault and of what is done with its directory.
type vaultFlags struct {
	dir, store   string
	sealing      string // file of the key that seals the authority
	api, nodes   string
	addresses    []string
	open         bool
	withParent   bool
	told         []vault.Address
	names        []string // of the vault's certificate, when it is made
	ips          []net.IP
	limits       service.Limits
	backup, from string
}

func (f *vaultFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "dir", "", "`directory` of what the vault keeps")
	cmd.Flags().StringVar(&f.store, "store", "", "`URL` of the store: sqlite:/path/vault.db or postgres://user@host/database (default: DIR/vault.db)")
}

// registerIdentity is for what opens the authority, and makes the vault's certificate.
func (f *vaultFlags) registerIdentity(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.names, "dns", []string{"localhost"}, "DNS `names` under which operators reach the API, for a certificate that is made")
	cmd.Flags().IPSliceVar(&f.ips, "ip", []net.IP{net.IPv4(127, 0, 0, 1)}, "IP `addresses` under which operators reach it, likewise")
	cmd.Flags().StringVar(&f.sealing, "sealing-key", "", sealingHelp+" (default: DIR/"+vaultSealing+", made if the authority has none; put it where copies of DIR do not go)")
}

func (f *vaultFlags) validate() error {
	if err := required("--dir", f.dir, "the directory of what the vault keeps"); err != nil {
		return err
	}
	abs, err := filepath.Abs(f.dir)
	if err != nil {
		return homeward.Errorf("read flags", homeward.Invalid, "--dir", "give an absolute path", "%w", err)
	}
	f.dir = abs
	if len(f.path(vaultKeeper)) > maxSocketPath {
		return homeward.Errorf("read flags", homeward.Invalid, "--dir", "give a directory with a shorter path", "%s: the path of a unix socket has at most %d bytes", abs, maxSocketPath)
	}
	if f.store == "" {
		f.store = "sqlite:" + f.path(vaultStore)
	}
	if f.sealing == "" {
		f.sealing = f.path(vaultSealing)
	}
	for _, given := range f.addresses {
		label, host, ok := strings.Cut(given, "=")
		if !ok {
			label, host = string(vault.Production), given
		}
		f.told = append(f.told, vault.Address{Host: host, Purpose: vault.Purpose(label)})
	}
	if err := f.limits.Validate(); err != nil {
		return err
	}
	return enrol.ValidateAddresses(f.told)
}

func (f *vaultFlags) path(name string) string { return filepath.Join(f.dir, name) }

func (c *command) vault() *cobra.Command {
	var f vaultFlags
	cmd := &cobra.Command{Use: "vault", Short: "Run the vault: the control plane that operators and nodes speak to", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runVault(cmd.Context(), f) }}
	f.register(cmd)
	f.registerIdentity(cmd)
	cmd.Flags().StringVar(&f.api, "listen-api", "127.0.0.1:8440", "`host:port` that operators speak to, over HTTPS")
	cmd.Flags().StringVar(&f.nodes, "listen-nodes", "127.0.0.1:7443", "`host:port` that nodes dial, to enrol and to be told what to do")
	cmd.Flags().StringArrayVar(&f.addresses, "address", nil, "`[label=]host:port` where nodes reach the vault, several times; label: production (the default) or failback")
	most := service.DefaultLimits()
	cmd.Flags().IntVar(&f.limits.Target, "most-per-target", most.Target, "`items` that synchronize at once to one master target; more wait for their turn, by priority")
	cmd.Flags().IntVar(&f.limits.Link, "most-per-link", most.Link, "`items` that synchronize at once over one process server to one master target")
	cmd.Flags().IntVar(&f.limits.Host, "most-per-host", most.Host, "`items` that one site's hypervisor prepares things for at once, and as many machines that it starts")
	cmd.Flags().BoolVar(&f.open, "open-metrics", false, "answer /metrics without a token")
	cmd.Flags().BoolVar(&f.withParent, "with-parent", false, "end when standard input does, so that nothing outlives the parent")
	cmd.AddCommand(c.vaultInit(), c.vaultBackup(), c.vaultRestore())
	return cmd
}

// running is the vault as one process: each part is served until the others end.
type running struct {
	store  *store.Store
	parts  []func(context.Context) error
	closes []func() error
}

// serve runs all parts until ctx ends or one of them cannot go on.
func (r *running) serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range r.parts {
		group.Go(func() error { return part(ctx) })
	}
	return group.Wait()
}

func (r *running) close() error {
	var errs []error
	for i := len(r.closes) - 1; i >= 0; i-- {
		errs = append(errs, r.closes[i]())
	}
	return errors.Join(errs...)
}

// vaultReady is what a parent process waits for on standard output.
type vaultReady struct {
	Ready       bool   `json:"ready"`
	API         string `json:"api"`
	Nodes       string `json:"nodes"`
	Socket      string `json:"socket"`
	CA          string `json:"ca"`
	Fingerprint string `json:"fingerprint"`
	PID         int    `json:"pid"`
}

func (c *command) runVault(ctx context.Context, f vaultFlags) (err error) {
	if err := f.validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if f.withParent {
		go endWithInput(c.in, cancel) // its read ends with the process at the latest
	}
	log := c.logger().With("node", "vault")
	defer enforceEnd(ctx, endTimeout, log, os.Exit)()
	// Bind before opening: an address in use is found before anything is changed.
	nodes, err := listen(f.nodes)
	if err != nil {
		return err
	}
	operators, err := listen(f.api)
	if err != nil {
		return errors.Join(err, nodes.Close())
	}
	if len(f.told) == 0 {
		f.told = []vault.Address{{Host: nodes.Addr().String(), Purpose: vault.Production}}
	}
	r, pin, err := openVault(ctx, f, log, nodes, operators)
	if err != nil {
		return errors.Join(err, nodes.Close(), operators.Close())
	}
	defer func() { err = errors.Join(err, r.close()) }()
	told := vaultReady{Ready: true, API: "https://" + operators.Addr().String(), Nodes: nodes.Addr().String(), Socket: f.path(vaultAPI),
		CA: filepath.Join(f.path(vaultCA), "ca.pem"), Fingerprint: hex.EncodeToString(pin[:]), PID: os.Getpid()}
	if err := c.print(told, "ready: vault, API at %s, nodes at %s", told.API, told.Nodes); err != nil {
		return err
	}
	return r.serve(ctx)
}

// openVault opens everything that the vault is made of, from the store upwards.
func openVault(ctx context.Context, f vaultFlags, log *slog.Logger, nodes, operators net.Listener) (r *running, pin pki.Fingerprint, err error) {
	r = &running{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	authority, id, err := vaultIdentities(f)
	if err == nil {
		err = f.warnOfKey(log)
	}
	if err != nil {
		return r, pin, err
	}
	if r.store, err = store.Open(ctx, store.Config{URL: f.store, Log: log}); err != nil {
		return r, pin, err
	}
	r.closes = append(r.closes, r.store.Close)
	svc, err := r.openService(ctx, f, log, authority, id, nodes)
	if err != nil {
		return r, pin, err
	}
	return r, authority.Fingerprint(), r.openAPI(f, log, svc, id, operators)
}

func vaultIdentities(f vaultFlags) (*pki.Authority, *pki.Identity, error) {
	authority, err := f.openAuthority()
	if homeward.KindOf(err) == homeward.NotFound {
		return nil, nil, homeward.Errorf("start vault", homeward.NotFound, f.dir, "set it up first: 'homeward vault init --dir "+f.dir+"'", "%w", err)
	}
	if err != nil {
		return nil, nil, err
	}
	id, err := pki.LoadIdentity(durable.OS(), f.path(vaultIdentity))
	if homeward.KindOf(err) == homeward.NotFound { // it was restored at another host: the identity is in no backup
		if err = f.issueIdentity(authority); err == nil {
			id, err = pki.LoadIdentity(durable.OS(), f.path(vaultIdentity))
		}
	}
	return authority, id, err
}

// issueIdentity makes the vault's own.
func (f *vaultFlags) issueIdentity(a *pki.Authority) error {
	return a.Issue(pki.Request{Peer: pki.Peer{Role: pki.Vault, Name: "vault"}, DNSNames: f.names, Addresses: f.ips}, f.path(vaultIdentity))
}

// openService opens what nodes speak to, and the vault over it.
func (r *running) openService(ctx context.Context, f vaultFlags, log *slog.Logger, authority *pki.Authority, id *pki.Identity, nodes net.Listener) (*service.Service, error) {
	epoch, err := r.store.Epoch(ctx)
	if err != nil {
		return nil, err
	}
	admission := &fleet.Admission{}
	hub := role.NewHub(role.HubOptions{TLS: id.ServerTLS(pki.Agent, pki.ProcessServer, pki.MasterTarget, pki.ConfigurationServer),
		Version: buildVersion().Version, Epoch: epoch, Log: log, Admit: admission.Admit, Watch: id.Watch})
	var svc *service.Service
	nodesOf, err := fleet.Open(ctx, fleet.Options{Store: r.store, Hub: hub, Authority: authority, Identity: id, Log: log,
		Pairs: func(ctx context.Context) ([]fleet.Pair, error) { return svc.Ways(ctx) },
		Noted: func(n vault.Node) { svc.Noted(n) }})
	if err != nil {
		return nil, err
	}
	admission.Open(nodesOf)
	door, err := enrol.NewServer(enrol.Options{Enrolments: r.store.Enrolments, Nodes: r.store.Nodes, Tx: r.store.Tx, Authority: authority, Identity: id,
		Addresses: f.told, Changed: func(ctx context.Context, name string) {
			if err := nodesOf.Learn(ctx, name); err != nil {
				log.Warn("a node that was entered is not known yet: it is when it connects", "node", name, "error", err)
			}
		}, Audit: r.store.Audit, Log: log})
	if err != nil {
		return nil, err
	}
	fault, err := faultHook(os.Getenv(faultVariable))
	if err != nil {
		return nil, err
	}
	svc, err = service.Open(ctx, service.Options{Store: r.store, Roles: nodesOf, Registry: registry{nodesOf, door}, Identity: id,
		Version: buildVersion().Version, Addresses: f.told, Limits: f.limits, Log: log, Fault: fault})
	if err != nil {
		return nil, err
	}
	enrolling, serving := enrol.Split(nodes)
	r.parts = append(r.parts,
		func(ctx context.Context) error { return hub.Serve(ctx, serving) },
		func(ctx context.Context) error { return door.Serve(ctx, enrolling) },
		nodesOf.Run, svc.Run,
		func(ctx context.Context) error { return enrol.Keep(ctx, id, enrol.BySelf(authority, id), log) })
	return svc, nil
}

// registry joins who admits nodes with who knows them.
type registry struct {
	*fleet.Fleet
	door *enrol.Server
}

// CreateToken makes an enrolment token.
func (r registry) CreateToken(ctx context.Context, req vault.EnrolmentRequest) (vault.EnrolmentToken, error) {
	return r.door.CreateToken(ctx, req)
}

// openAPI opens what operators speak to.
func (r *running) openAPI(f vaultFlags, log *slog.Logger, svc *service.Service, id *pki.Identity, operators net.Listener) error {
	config := id.EnrolmentTLS() // shows the authority too, for clients that know its fingerprint alone
	config.ClientAuth, config.VerifyConnection = 0, nil
	server, err := api.NewServer(api.ServerOptions{Vault: svc, Authenticator: svc, TLS: config, Version: buildVersion().Version, OpenMetrics: f.open, Log: log,
		Ready: func(ctx context.Context) error {
			_, err := r.store.Epoch(ctx)
			return err
		}})
	if err != nil {
		return err
	}
	local, err := listenUnix(f.path(vaultAPI))
	if err != nil {
		return err
	}
	keeper, err := listenUnix(f.path(vaultKeeper))
	if err != nil {
		return errors.Join(err, local.Close())
	}
	r.parts = append(r.parts,
		func(ctx context.Context) error { return server.Serve(ctx, operators, local) },
		func(ctx context.Context) error { return serveKeeper(ctx, r.store, keeper, log) })
	return nil
}

// listenUnix binds a socket for the vault's own user; one that a killed vault has
// left is replaced: whoever has the store is the only one.
func listenUnix(path string) (net.Listener, error) {
	if err := durable.Remove(durable.OS(), path); err != nil {
		return nil, err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, homeward.Errorf("listen", homeward.IO, path, "make the directory writable", "%w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(homeward.Errorf("listen", homeward.IO, path, "make the directory writable", "%w", err), ln.Close())
	}
	return ln, nil
}

// copyAll copies and says how much.
func copyAll(to io.Writer, from io.Reader) (int64, error) {
	n, err := io.Copy(to, from)
	if err != nil {
		return n, homeward.Errorf("copy", homeward.IO, "", "try again", "%w", err)
	}
	return n, nil
}
