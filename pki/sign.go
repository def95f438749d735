package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"io"
	"time"

	"github.com/homeward-dr/homeward"
)

// Bounds of a signed document.
const (
	// MaxSigned is the most bytes a document may have, payload and all.
	MaxSigned = 16 << 20
	maxChain  = 4 // certificates that come with it
)

// SignedJSON is a document and the proof of who signed it. The payload is kept as
// bytes, not as JSON in JSON: the signature covers exactly these bytes, whatever
// reformats the document around them.
type SignedJSON struct {
	Payload   []byte    `json:"payload"` // JSON
	SignedAt  time.Time `json:"signed_at"`
	Chain     [][]byte  `json:"chain"`     // the signer's certificate first, DER
	Signature []byte    `json:"signature"` // ECDSA, SHA-256, over signedBytes
}

// Sign signs payload, marshalled as JSON, with an identity's key.
func Sign(id *Identity, payload any) (SignedJSON, error) {
	const op = "sign document"
	data, err := json.MarshalIndent(payload, "", "  ")
	if err != nil {
		return SignedJSON{}, homeward.Errorf(op, homeward.Invalid, "", "", "%w", err)
	}
	h := id.held.Load()
	doc := SignedJSON{Payload: data, SignedAt: id.now().UTC(), Chain: h.chain.Certificate}
	sum := sha256.Sum256(doc.signedBytes())
	doc.Signature, err = ecdsa.SignASN1(rand.Reader, h.key, sum[:])
	return doc, homeward.Wrap(err, op, h.peer.String())
}

// Verify checks that the payload is what a node of an authority in roots signed,
// and says which node; whether that one may sign such a thing is the caller's to
// decide. The certificate must have been valid when the document says it was
// signed: documents outlive certificates.
func Verify(roots *x509.CertPool, doc SignedJSON) (Peer, error) {
	const op = "verify document"
	bad := func(format string, args ...any) (Peer, error) {
		return Peer{}, homeward.Errorf(op, homeward.Unauthentic, "",
			"do not rely on it; get it again from where it was made", format, args...)
	}
	if roots == nil { // which x509 would take for everything the operating system trusts
		return bad("no authority is trusted here")
	}
	if len(doc.Chain) == 0 || len(doc.Chain) > maxChain {
		return bad("it comes with %d certificates, 1 to %d belong", len(doc.Chain), maxChain)
	}
	certs := make([]*x509.Certificate, len(doc.Chain))
	for i, der := range doc.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return bad("certificate %d: %w", i, err)
		}
		certs[i] = cert
	}
	if _, err := verifyChain(certs, roots, x509.ExtKeyUsageClientAuth, doc.SignedAt); err != nil {
		return Peer{}, homeward.Wrap(err, op, "")
	}
	if err := certs[0].CheckSignature(x509.ECDSAWithSHA256, doc.signedBytes(), doc.Signature); err != nil {
		return bad("signature: %w", err)
	}
	return peerOfCert(certs[0])
}

// signedBytes binds payload and time together, and to this use of the key.
func (d SignedJSON) signedBytes() []byte {
	b := []byte("homeward signed json 1\x00")
	b = binary.BigEndian.AppendUint64(b, uint64(d.SignedAt.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(d.SignedAt.Nanosecond()))
	return append(b, d.Payload...)
}

// Decode reads the payload into v, strictly. Verify first.
func (d SignedJSON) Decode(v any) error { return decodeStrictly("decode payload", d.Payload, v) }

// ParseSigned reads a document in its JSON form, of at most MaxSigned bytes;
// unknown fields are refused. It verifies nothing.
func ParseSigned(data []byte) (SignedJSON, error) {
	var doc SignedJSON
	if len(data) > MaxSigned {
		return doc, homeward.Errorf("parse document", homeward.Invalid, "",
			"give a signed document", "%d bytes, at most %d belong", len(data), MaxSigned)
	}
	return doc, decodeStrictly("parse document", data, &doc)
}

func decodeStrictly(op string, data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			return homeward.Errorf(op, homeward.Corrupt, "", "get it again from where it was made", "something follows the document")
		}
		return nil
	}
	return homeward.Errorf(op, homeward.Corrupt, "", "get it again from where it was made", "%w", err)
}
