package main

import (
	"encoding/json"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
)

func (c *command) pki() *cobra.Command {
	return group("pki", "Make an authority and the identities of nodes",
		c.pkiInit(), c.pkiIssue(), c.pkiRevoke(), c.pkiVerify())
}

func (c *command) pkiInit() *cobra.Command {
	var dir, name string
	cmd := &cobra.Command{Use: "init --ca DIR", Short: "Create an authority", Args: arguments(0),
		RunE: func(*cobra.Command, []string) error {
			if err := required("--ca", dir, "the directory to create the authority in"); err != nil {
				return err
			}
			if _, err := pki.CreateAuthority(durable.OS(), dir, name); err != nil {
				return err
			}
			return c.print(map[string]string{"authority": dir}, "created an authority in %s; keep its ca-key.pem secret, and a copy of it safe", dir)
		}}
	cmd.Flags().StringVar(&dir, "ca", "", "`directory` of the authority")
	cmd.Flags().StringVar(&name, "name", "Homeward", "what people call it")
	return cmd
}

func (c *command) pkiIssue() *cobra.Command {
	var ca authorityFlags
	var role, out string
	var r pki.Request
	cmd := &cobra.Command{Use: "issue --ca DIR --role ROLE --name NAME --out DIR", Short: "Issue a node its identity", Args: arguments(0),
		RunE: func(*cobra.Command, []string) error {
			r.Role = pki.Role(role)
			if err := required("--out", out, "the directory to write the identity to"); err != nil {
				return err
			}
			authority, err := ca.open()
			if err != nil {
				return err
			}
			if err := authority.Issue(r, out); err != nil {
				return err
			}
			return c.print(map[string]any{"identity": out, "peer": r.Peer}, "issued %s its identity in %s; give it to that node alone", r.Peer, out)
		}}
	ca.register(cmd)
	cmd.Flags().StringVar(&role, "role", "", "`role`: agent, process-server, master-target, configuration-server or vault")
	cmd.Flags().StringVar(&r.Name, "name", "", "`name` of the node, unique in the installation")
	cmd.Flags().StringVar(&out, "out", "", "`directory` to write the identity to")
	cmd.Flags().StringSliceVar(&r.DNSNames, "dns", nil, "DNS `names` to put into the certificate, for other tools")
	cmd.Flags().IPSliceVar(&r.Addresses, "ip", []net.IP{}, "IP `addresses` to put into it, likewise")
	cmd.Flags().DurationVar(&r.Lifetime, "lifetime", pki.DefaultLifetime, "how long it is valid, at most 8784h (a year)")
	return cmd
}

func (c *command) pkiRevoke() *cobra.Command {
	var ca authorityFlags
	var nodes []string
	cmd := &cobra.Command{Use: "revoke --ca DIR IDENTITY", Short: "Revoke the certificate in an identity directory", Args: arguments(1),
		RunE: func(_ *cobra.Command, args []string) error {
			authority, err := ca.open()
			if err != nil {
				return err
			}
			if err := authority.Revoke(args[0]); err != nil {
				return err
			}
			for _, dir := range nodes {
				if err := authority.Distribute(dir); err != nil {
					return err
				}
			}
			return c.print(map[string]any{"revoked": args[0], "told": nodes},
				"revoked %s; %d identity directories have the new list: copy revoked.pem of the authority to all others", args[0], len(nodes))
		}}
	ca.register(cmd)
	cmd.Flags().StringSliceVar(&nodes, "tell", nil, "identity `directories` to copy the new list to")
	return cmd
}

type documentVerified struct {
	Signer   pki.Peer        `json:"signer"`
	SignedAt time.Time       `json:"signed_at"`
	Payload  json.RawMessage `json:"payload"`
}

func (c *command) pkiVerify() *cobra.Command {
	var identity string
	cmd := &cobra.Command{Use: "verify --identity DIR FILE", Short: "Check who signed a document, such as a proof, and print it", Args: arguments(1),
		RunE: func(_ *cobra.Command, args []string) error {
			const op = "verify document"
			if err := required("--identity", identity, "an identity directory, for the authorities it trusts"); err != nil {
				return err
			}
			id, err := pki.LoadIdentity(durable.OS(), identity)
			if err != nil {
				return err
			}
			f, err := openRegular(op, args[0])
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }() // only read
			data, err := io.ReadAll(io.LimitReader(f, pki.MaxSigned+1))
			if err != nil {
				return homeward.Errorf(op, homeward.IO, args[0], "", "%w", err)
			}
			doc, err := pki.ParseSigned(data)
			if err != nil {
				return homeward.Wrap(err, op, args[0])
			}
			signer, err := pki.Verify(id.Roots(), doc)
			if err != nil {
				return homeward.Wrap(err, op, args[0])
			}
			return c.print(documentVerified{signer, doc.SignedAt, doc.Payload},
				"%s\nsigned by %s at %s", doc.Payload, signer, doc.SignedAt.Format(time.RFC3339))
		}}
	cmd.Flags().StringVar(&identity, "identity", "", "an identity `directory`")
	return cmd
}

// required refuses an empty flag.
func required(flag, value, what string) error {
	if value != "" {
		return nil
	}
	return homeward.Errorf("read flags", homeward.Invalid, flag, "give "+what, "missing")
}
