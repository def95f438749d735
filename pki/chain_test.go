package pki

import (
	"crypto/tls"
	"testing"

	"github.com/homeward-dr/homeward"
)

// An authority's own certificate is public: whoever shows it as if it were a node's
// must be refused, and not bring down who looks at it.
func TestVerify_AuthorityIsNoPeer(t *testing.T) {
	a, _ := newTestAuthority(t)
	ps := load(t, issue(t, a, Request{Peer: Peer{ProcessServer, "ps1"}}))
	forged := tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: ps.held.Load().key}
	t.Run("client", func(t *testing.T) {
		config := ps.ClientTLS(ProcessServer)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &forged, nil }
		for _, server := range []*tls.Config{ps.ServerTLS(ProcessServer), ps.EnrolmentTLS()} {
			if _, err, _ := shake(t, server, config); err == nil {
				t.Error("the authority's certificate was taken for a node's")
			}
		}
	})
	t.Run("document", func(t *testing.T) {
		doc := signedProof(t, a)
		doc.Chain = [][]byte{a.cert.Raw}
		_, err := Verify(a.Roots(), doc)
		wantKind(t, err, homeward.Unauthentic)
	})
	t.Run("pinned", func(t *testing.T) {
		wantKind(t, verifyPinned(ps.held.Load().cas, a.Fingerprint(), Roles()), homeward.Unauthentic)
	})
}
