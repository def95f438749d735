package main

import (
	"cmp"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/enrol"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// tokenVariable holds the enrolment token where command lines can be seen by others.
const tokenVariable = "HOMEWARD_ENROLMENT_TOKEN"

// maxTokenFile is how much of a token file is read.
const maxTokenFile = 4 << 10

// enrolFlags are how a role becomes a node of an installation at its first start.
type enrolFlags struct {
	vaults    []string
	token     string
	tokenFile string
	name      string
	site      string // that this node says it is at; empty: that of its token
	advertise []string
}

func (f *enrolFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.vaults, "vault", nil, "`host:port` of the vault, several are tried in turn: enrol there at the first start, renew the identity in time, and take orders")
	flags.StringVar(&f.token, "token", "", "enrolment `token`, for the first start; better in "+tokenVariable+" or --token-file: others see flags")
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the enrolment token")
	flags.StringVar(&f.name, "node", "", "`name` to enrol under (default: that of this host)")
	flags.StringSliceVar(&f.advertise, "advertise", nil, "`host:port` at which peers reach this node; failback=host:port for the way home (default: --listen, if it names an address and a port)")
}

// enrolNode sees to it that a role has an identity: it enrols when it was told a
// vault and has none yet. It fills in the flags that follow from having one.
func (c *command) enrolNode(ctx context.Context, want pki.Role, f *nodeFlags) error {
	for _, addr := range f.enrol.vaults {
		if err := hostPort("--vault", addr); err != nil {
			return err
		}
	}
	if f.identity == "" && f.dir != "" {
		dir := filepath.Join(f.dir, "identity")
		if len(f.enrol.vaults) > 0 || hasIdentity(dir) {
			f.identity = dir
		}
	}
	if f.identity == "" {
		return nil // refused, with a remedy, by validate
	}
	if len(f.enrol.vaults) > 0 && !hasIdentity(f.identity) {
		if err := f.validate(); err != nil {
			return err
		}
		r, err := c.enrolment(want, f)
		if err != nil {
			return err
		}
		if err := enrol.Enrol(ctx, r); err != nil {
			return err
		}
	}
	if len(f.controllers) == 0 {
		var err error
		f.controllers, err = enrol.Addresses(durable.OS(), f.identity, f.enrol.vaults)
		return err
	}
	return nil
}

func hasIdentity(dir string) bool {
	_, err := pki.LoadIdentity(durable.OS(), dir)
	return homeward.KindOf(err) != homeward.NotFound
}

// enrolment is what the flags ask for.
func (c *command) enrolment(want pki.Role, f *nodeFlags) (enrol.Request, error) {
	r := enrol.Request{Vaults: f.enrol.vaults, Peer: pki.Peer{Role: want, Name: f.enrol.name}, Site: f.enrol.site, Version: buildVersion().Version,
		Dir: f.identity, FS: durable.OS(), Log: c.logger()}
	text, err := f.enrol.tokenText()
	if err != nil {
		return r, err
	}
	if r.Token, err = enrol.ParseToken(text); err != nil {
		return r, err
	}
	if r.Peer.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return r, homeward.Errorf("read flags", homeward.Invalid, "--node", "give the node's name", "the host has none: %w", err)
		}
		r.Peer.Name, _, _ = strings.Cut(host, ".")
	}
	if err := r.Peer.Validate(); err != nil {
		return r, homeward.Errorf("read flags", homeward.Invalid, "--node", "give the node a name of 1 to 64 letters, digits, '-' or '_'", "%w", err)
	}
	r.Addresses, err = advertised(f.enrol.advertise, f.listen)
	return r, err
}

func (f enrolFlags) tokenText() (string, error) {
	if f.tokenFile == "" {
		text := cmp.Or(f.token, os.Getenv(tokenVariable))
		if text == "" {
			return "", homeward.Errorf("read flags", homeward.Invalid, "--token",
				"make a token with 'homeward node enrol-token', and give it here, in "+tokenVariable+", or in --token-file", "this node is not enrolled yet")
		}
		return text, nil
	}
	if f.token != "" {
		return "", homeward.Errorf("read flags", homeward.Invalid, "--token-file", "give one of --token and --token-file", "both are given")
	}
	info, err := os.Stat(f.tokenFile)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxTokenFile) {
		return "", homeward.Errorf("read flags", homeward.Invalid, "--token-file", "give a file that holds the token alone", "%s does not", f.tokenFile)
	}
	if err != nil {
		return "", durable.SystemError("read token", f.tokenFile, err)
	}
	data, err := durable.ReadFile(durable.OS(), f.tokenFile)
	return string(data), homeward.Wrap(err, "read token", f.tokenFile)
}

// advertised are the addresses that peers are told: those given, or else the one
// that is listened on, where that says enough.
func advertised(given []string, listen string) ([]vault.Address, error) {
	var all []vault.Address
	for _, text := range given {
		label, host, labelled := strings.Cut(text, "=")
		if !labelled {
			label, host = string(vault.Production), text
		}
		all = append(all, vault.Address{Host: host, Purpose: vault.Purpose(label)})
	}
	if err := enrol.ValidateAddresses(all); err != nil {
		return nil, homeward.Errorf("read flags", homeward.Invalid, "--advertise", "give host:port, production=host:port or failback=host:port", "%w", err)
	}
	if len(all) > 0 || !reachable(listen) {
		return all, nil
	}
	return []vault.Address{{Host: listen, Purpose: vault.Production}}, nil
}

// reachable reports whether an address to listen on also says where to dial.
func reachable(listen string) bool {
	host, port, err := net.SplitHostPort(listen)
	ip := net.ParseIP(host)
	return err == nil && host != "" && port != "0" && (ip == nil || !ip.IsUnspecified())
}

// keepIdentity renews a node's identity in time, until ctx ends. One that was issued
// by hand, and knows no vault, is renewed by hand.
func keepIdentity(ctx context.Context, n node) error {
	all, err := enrol.Addresses(n.fs, n.flags.identity, n.flags.enrol.vaults)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return nil
	}
	return enrol.Keep(ctx, n.id, enrol.Renew(n.id, n.fs, n.flags.identity, n.flags.enrol.vaults), n.log)
}
