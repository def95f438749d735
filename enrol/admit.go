package enrol

import (
	"context"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

// maxCertificates is how many certificates of a node may be valid at a time. A
// node that renews as it should has two.
const maxCertificates = 8

// enrol admits a node by its token.
func (s *Server) enrol(ctx context.Context, who caller, r NodeRequest) (Answer, error) {
	token, err := ParseToken(r.Token)
	if err != nil {
		return Answer{}, err
	}
	if err := r.validate(); err != nil {
		return Answer{}, err
	}
	csr, err := pki.ParseCSR(r.CSR)
	if err != nil {
		return Answer{}, err
	}
	if err := s.authenticate(ctx, token); err != nil {
		s.audit(ctx, who, "node.enrol", "token "+token.ID, r.Peer.String(), err)
		return Answer{}, err
	}
	var answer Answer
	err = s.o.Tx(ctx, func(ctx context.Context) error {
		answer, err = s.enter(ctx, token.ID, csr, r)
		return err
	})
	s.audit(ctx, who, "node.enrol", r.Peer.String(), "token "+token.ID, err)
	if err != nil {
		return Answer{}, homeward.Wrap(err, "enrol", r.Peer.String())
	}
	s.o.Log.Info("a node was enrolled", "node", r.Peer.String(), "site", answer.Node.Site, "from", who.from, "token", token)
	s.changed(ctx, r.Name)
	return answer, nil
}

// authenticate says the same about a token that never was and one whose secret is
// wrong.
func (s *Server) authenticate(ctx context.Context, t Token) error {
	e, err := s.o.Enrolments.Get(ctx, t.ID)
	if err != nil && homeward.KindOf(err) != homeward.NotFound {
		return homeward.Wrap(err, "enrol", "token "+t.ID)
	}
	if !t.fits(e.Hash) {
		return homeward.Errorf("enrol", homeward.Unauthentic, "token",
			"make a new token with 'homeward node enrol-token'", "the vault does not know this token")
	}
	return nil
}

// enter uses the token and writes the node, in one transaction: of two that race
// with one token, the second finds it used.
func (s *Server) enter(ctx context.Context, token string, csr pki.CSR, r NodeRequest) (Answer, error) {
	again := false
	e, err := s.o.Enrolments.Change(ctx, token, func(e *store.Enrolment) error {
		if err := s.allowed(e, r); err != nil {
			return err
		}
		if again = !e.Used.IsZero(); !again {
			e.Used, e.UsedBy = s.o.Now().UTC(), r.Name
		}
		return nil
	})
	if err != nil {
		return Answer{}, err
	}
	old, err := s.o.Nodes.Get(ctx, r.Name)
	known := err == nil
	switch {
	case err != nil && homeward.KindOf(err) != homeward.NotFound:
		return Answer{}, err
	case again:
		return s.repeat(ctx, e, csr, old, known)
	case known:
		if err := s.replaceable(e, old, r); err != nil {
			return Answer{}, err
		}
	}
	grant, issued, err := s.issue(csr, r.Peer)
	if err != nil {
		return Answer{}, err
	}
	now := s.o.Now().UTC()
	node := vault.Node{
		Meta: old.Meta, Name: r.Name, Role: r.Role, Site: e.Site, State: vault.NodeRegistering,
		Addresses: r.Addresses, Version: r.Version, Enrolled: now,
	}
	addCertificate(&node, issued, now)
	if known {
		node, err = s.o.Nodes.Change(ctx, r.Name, func(n *vault.Node) error {
			node.Meta = n.Meta
			*n = node
			return nil
		})
	} else {
		err = s.o.Nodes.Insert(ctx, &node)
	}
	return Answer{Grant: grant, Vault: s.o.Addresses, Node: node}, err
}

// allowed holds what a node claims against what its token allows.
func (s *Server) allowed(e *store.Enrolment, r NodeRequest) error {
	lie := func(field, format string, args ...any) error {
		return homeward.Errorf("enrol", homeward.Forbidden, field,
			"start the node as what the token is for, or make a token for what it is", format, args...)
	}
	switch {
	case r.Role != e.Role:
		return lie("role", "the token is for role %s, not %s", e.Role, r.Role)
	case e.Node != "" && r.Name != e.Node:
		return lie("name", "the token admits %q, not %q", e.Node, r.Name)
	case r.Site != "" && r.Site != e.Site:
		return lie("site", "the token admits a node of site %q, not of %q", e.Site, r.Site)
	case !s.o.Now().Before(e.Expires):
		return homeward.Errorf("enrol", homeward.Unauthentic, "token",
			"make a new token with 'homeward node enrol-token'", "it expired at %s", e.Expires.UTC().Format(time.RFC3339))
	case !e.Used.IsZero() && e.UsedBy != r.Name:
		return used(e)
	}
	return nil
}

func used(e *store.Enrolment) error {
	return homeward.Errorf("enrol", homeward.Unauthentic, "token",
		"make a new token with 'homeward node enrol-token'; if you do not know that node, revoke it",
		"it was used at %s by %s", e.Used.UTC().Format(time.RFC3339), e.UsedBy)
}

// repeat answers a node whose first answer was lost: it holds the key that the
// certificate was issued for.
func (s *Server) repeat(ctx context.Context, e store.Enrolment, csr pki.CSR, n vault.Node, known bool) (Answer, error) {
	if !known || n.State == vault.NodeRevoked || len(n.Certificates) == 0 || n.Certificates[len(n.Certificates)-1].Key != csr.Key() {
		return Answer{}, used(&e)
	}
	return s.certify(ctx, csr, n.Name)
}

// replaceable decides whether a node may take a name that is known: only with a
// token that was made for this very name, for the same role and site. What was
// issued to the name before is revoked.
func (s *Server) replaceable(e store.Enrolment, old vault.Node, r NodeRequest) error {
	if e.Node != r.Name || old.Role != r.Role || old.Site != e.Site {
		return homeward.Errorf("enrol", homeward.Exists, "name",
			"choose another name; or, to set this node up anew, make a token for its very name, role and site",
			"%s %s of site %s has this name", old.Role, old.Name, old.Site)
	}
	return s.revoke(serials(old)...)
}

// revoke also tells the vault's own identity.
func (s *Server) revoke(serials ...string) error {
	if err := s.o.Authority.RevokeSerials(serials...); err != nil {
		return err
	}
	list, err := s.o.Authority.Revocations()
	if err != nil {
		return err
	}
	return s.o.Identity.TakeRevocations(list)
}

// renew gives a node a new certificate for the one it shows.
func (s *Server) renew(ctx context.Context, who caller, r RenewRequest) (Answer, error) {
	peer, err := pki.PeerOf(who.tls)
	if err != nil {
		return Answer{}, err
	}
	csr, err := pki.ParseCSR(r.CSR)
	if err != nil {
		return Answer{}, err
	}
	shown := pki.Describe(who.tls.PeerCertificates[0])
	var answer Answer
	err = s.o.Tx(ctx, func(ctx context.Context) error {
		n, err := s.o.Nodes.Get(ctx, peer.Name)
		if homeward.KindOf(err) == homeward.NotFound {
			return homeward.Errorf("renew", homeward.Forbidden, peer.String(),
				"enrol it: make a token with 'homeward node enrol-token' and start it with --token", "the vault does not know this node")
		}
		if err != nil {
			return err
		}
		if err := mayRenew(n, peer, shown, csr.Key()); err != nil {
			return err
		}
		answer, err = s.certify(ctx, csr, peer.Name)
		return err
	})
	s.audit(ctx, who, "node.renew", peer.String(), "certificate "+shown.Serial, err)
	if err != nil {
		return Answer{}, homeward.Wrap(err, "renew", peer.String())
	}
	s.o.Log.Info("a node's certificate was renewed", "node", peer.String(), "expires", answer.Node.Expires)
	s.changed(ctx, peer.Name)
	return answer, nil
}

// mayRenew: with the newest certificate, with the one before it (the answer was
// lost), or with one that is newer than all that are known (the vault was
// restored). An older one must not come back to life. Certificates for the very key
// that is asked for do not count as newer: their answers were lost too.
func mayRenew(n vault.Node, peer pki.Peer, shown pki.Issued, key string) error {
	refuse := func(remedy, format string, args ...any) error {
		return homeward.Errorf("renew", homeward.Forbidden, peer.String(), remedy, format, args...)
	}
	switch {
	case n.Role != peer.Role:
		return refuse("enrol it under a name of its own", "a %s has this name", n.Role)
	case n.State == vault.NodeRevoked:
		return refuse("enrol it again if it is to be trusted again", "it was revoked")
	}
	at := slices.IndexFunc(n.Certificates, func(c pki.Issued) bool { return c.Serial == shown.Serial })
	newest := len(n.Certificates) - 1
	for newest > at && newest > 0 && n.Certificates[newest].Key == key && n.Certificates[newest-1].Key == key {
		newest--
	}
	if at < 0 && newest >= 0 && shown.From.Before(n.Certificates[newest].From) || at >= 0 && at < newest-1 {
		return refuse("start the node with its newest identity; if there is none, enrol it again", "a newer certificate has taken the place of this one")
	}
	return nil
}

// certify issues a known node another certificate and writes it down.
func (s *Server) certify(ctx context.Context, csr pki.CSR, name string) (Answer, error) {
	var grant pki.Grant
	n, err := s.o.Nodes.Change(ctx, name, func(n *vault.Node) error {
		now := s.o.Now().UTC()
		if prune(n, now); len(n.Certificates) >= maxCertificates {
			return homeward.Errorf("renew", homeward.Busy, name,
				"find out why this node renews so often", "%d certificates of it are valid", len(n.Certificates))
		}
		g, issued, err := s.issue(csr, pki.Peer{Role: n.Role, Name: n.Name})
		if err != nil {
			return err
		}
		grant = g
		addCertificate(n, issued, now)
		return nil
	})
	return Answer{Grant: grant, Vault: s.o.Addresses, Node: n}, err
}

func (s *Server) issue(csr pki.CSR, peer pki.Peer) (pki.Grant, pki.Issued, error) {
	return s.o.Authority.IssueCSR(csr, pki.Request{Peer: peer, Lifetime: s.o.Lifetime})
}

func addCertificate(n *vault.Node, c pki.Issued, now time.Time) {
	prune(n, now)
	n.Certificates = append(n.Certificates, c)
	n.Serial, n.Expires = c.Serial, c.Until
}

// prune forgets expired certificates, but never the newest two: they may renew.
func prune(n *vault.Node, now time.Time) {
	keep := max(len(n.Certificates)-2, 0)
	old := slices.DeleteFunc(slices.Clone(n.Certificates[:keep]), func(c pki.Issued) bool { return c.Until.Before(now) })
	n.Certificates = append(old, n.Certificates[keep:]...)
}

// serials are all certificates of a node that must be revoked with it.
func serials(n vault.Node) []string {
	list := make([]string, len(n.Certificates))
	for i, c := range n.Certificates {
		list[i] = c.Serial
	}
	return list
}
