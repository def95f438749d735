package fleet

import (
	"bytes"
	"context"
	"crypto/x509"
	"slices"
	"sync/atomic"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// Admission is a role.HubOptions.Admit that can be given to the hub before there is
// a fleet: until then nobody is admitted.
type Admission struct{ fleet atomic.Pointer[Fleet] }

// Open admits by what a fleet knows from now on.
func (a *Admission) Open(f *Fleet) { a.fleet.Store(f) }

// Admit is for role.HubOptions.
func (a *Admission) Admit(peer pki.Peer, cert *x509.Certificate) error {
	if f := a.fleet.Load(); f != nil {
		return f.Admit(peer, cert)
	}
	return homeward.Errorf("admit node", homeward.Unavailable, peer.String(), "wait: it tries again by itself", "the vault is starting")
}

// Admit lets enrolled nodes in that are not revoked, under the role they enrolled
// with, and with a certificate that no other has taken the place of. The certificate
// has been verified.
func (f *Fleet) Admit(peer pki.Peer, cert *x509.Certificate) error {
	refuse := func(remedy, format string, args ...any) error {
		return homeward.Errorf("admit node", homeward.Forbidden, peer.String(), remedy, format, args...)
	}
	f.mu.Lock()
	l := f.nodes[peer.Name]
	var n vault.Node
	if l != nil {
		n = l.node
	}
	f.mu.Unlock()
	if l == nil { // enrolled a moment ago, or never
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := f.Learn(ctx, peer.Name)
		if homeward.KindOf(err) == homeward.NotFound {
			return refuse("enrol it: make a token with 'homeward node enrol-token' and start it with --token", "the vault does not know this node")
		}
		if err != nil {
			return err
		}
		return f.Admit(peer, cert)
	}
	switch {
	case n.Role != peer.Role:
		return refuse("enrol it under a name of its own", "a %s has this name", n.Role)
	case n.State == vault.NodeRevoked:
		return refuse("enrol it again if it is to be trusted again", "it was revoked")
	case cert != nil && isStrange(n, pki.Describe(cert)):
		return refuse("start the node with its newest identity; if there is none, enrol it again", "its certificate is of an earlier enrolment")
	}
	return nil
}

// isStrange tells of a certificate that the vault does not know and that is older than
// the newest it knows. One that is newer was issued after the backup that the vault
// was restored from. Certificates of an earlier enrolment are on the list of those
// revoked, if the authority was not put back from a copy since.
func isStrange(n vault.Node, shown pki.Issued) bool {
	newest := len(n.Certificates) - 1
	return newest >= 0 && shown.From.Before(n.Certificates[newest].From) &&
		!slices.ContainsFunc(n.Certificates, func(c pki.Issued) bool { return c.Serial == shown.Serial })
}

// Revoke ends a node's part in the installation: its row says so first, then its
// certificates are on the authority's list, the connection is closed, and the list
// goes to all other nodes with their next heartbeat, which is asked for at once.
// Cut off in between, Open completes it. Again it changes nothing. Errors: NotFound.
func (f *Fleet) Revoke(ctx context.Context, name string) (vault.Node, error) {
	const op = "revoke node"
	n, err := f.o.Store.Nodes.Change(ctx, name, func(n *vault.Node) error {
		n.State = vault.NodeRevoked
		return nil
	})
	if err != nil {
		return vault.Node{}, homeward.Wrap(err, op, name)
	}
	f.mu.Lock()
	f.know(n).node.State = vault.NodeRevoked
	f.mu.Unlock()
	if err := f.revoke(serialsOf(n)); err != nil {
		return n, homeward.Wrap(err, op, name)
	}
	f.o.Hub.Drop(name, "it was revoked", "enrol it again if it is to be trusted again")
	f.hurry()
	f.o.Log.Info("a node was revoked", "node", name)
	return n, nil
}

// revoke puts certificates on the list and makes it count here.
func (f *Fleet) revoke(serials []string) error {
	if err := f.o.Authority.RevokeSerials(serials...); err != nil {
		return err
	}
	return f.readList()
}

// readList takes the authority's list as it is now: somebody may have used
// 'homeward pki revoke' beside the vault.
func (f *Fleet) readList() error {
	list, err := f.o.Authority.Revocations()
	if err != nil {
		return err
	}
	f.mu.Lock()
	known := bytes.Equal(f.list, list)
	f.list, f.listRead = list, f.o.Now()
	f.mu.Unlock()
	if known {
		return nil
	}
	return f.o.Identity.TakeRevocations(list)
}

// relearn takes back what an authority that was put back from an older copy has
// forgotten: a node's lists of its own. All others get it with their next heartbeat.
func (f *Fleet) relearn(node string, lists [][]byte) {
	learned := 0
	for _, list := range lists[:min(len(lists), maxLists)] {
		n, err := f.o.Authority.Relearn(list)
		if err != nil {
			f.o.Log.Warn("a node's revocation list is not taken", "node", node, "error", err)
			continue
		}
		learned += n
	}
	if learned == 0 {
		return
	}
	f.o.Log.Warn("the authority had forgotten revocations, and has learned them from a node", "node", node, "certificates", learned)
	if err := f.readList(); err != nil { // it is read again soon
		f.o.Log.Warn("the revocation list cannot be read; it is tried again", "error", err)
		return
	}
	f.hurry()
}

// hurry makes all heartbeats due.
func (f *Fleet) hurry() {
	f.mu.Lock()
	for _, l := range f.nodes {
		l.next = time.Time{}
	}
	f.mu.Unlock()
	f.nudge()
}

func serialsOf(n vault.Node) []string {
	var all []string
	for _, c := range n.Certificates {
		all = append(all, c.Serial)
	}
	return all
}
