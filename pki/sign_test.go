package pki

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
)

func signedProof(t *testing.T, a *Authority) SignedJSON {
	t.Helper()
	id := load(t, issue(t, a, Request{Peer: Peer{Vault, "v1"}}))
	doc, err := Sign(id, homeward.Proof{Item: "web01", Equal: true})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestSign_RoundTrip(t *testing.T) {
	a, _ := newTestAuthority(t)
	file, err := json.MarshalIndent(signedProof(t, a), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := ParseSigned(file)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := Verify(a.Roots(), doc)
	if err != nil || peer != (Peer{Vault, "v1"}) {
		t.Fatalf("verified as %v: %v", peer, err)
	}
	var proof homeward.Proof
	if err := doc.Decode(&proof); err != nil || proof.Item != "web01" || !proof.Equal {
		t.Errorf("decoded %+v: %v", proof, err)
	}
	wantKind(t, doc.Decode(&struct{}{}), homeward.Corrupt)
}

func TestVerify_RefusesOtherAuthorityAndTime(t *testing.T) {
	a, _ := newTestAuthority(t)
	other, _ := newTestAuthority(t)
	doc := signedProof(t, a)
	_, err := Verify(other.Roots(), doc)
	wantKind(t, err, homeward.Unauthentic)
	doc.SignedAt = doc.SignedAt.Add(-time.Hour)
	_, err = Verify(a.Roots(), doc)
	wantKind(t, err, homeward.Unauthentic)
	doc.Chain = nil
	_, err = Verify(a.Roots(), doc)
	wantKind(t, err, homeward.Unauthentic)
	_, err = ParseSigned(make([]byte, MaxSigned+1))
	wantKind(t, err, homeward.Invalid)
}

// Every single flipped bit of what is signed, of the signature and of the
// certificate must be noticed.
func TestVerify_NoticesFlips(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HOMEWARD_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("HOMEWARD_SEED: %v", err)
		}
	}
	t.Logf("HOMEWARD_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	a, _ := newTestAuthority(t)
	doc := signedProof(t, a)
	for _, part := range []*[]byte{&doc.Payload, &doc.Signature, &doc.Chain[0]} {
		good := *part
		for range 100 {
			bad := append([]byte(nil), good...)
			bit := rng.IntN(len(bad) * 8)
			bad[bit/8] ^= 1 << (bit % 8)
			*part = bad
			if _, err := Verify(a.Roots(), doc); err == nil {
				t.Fatalf("flip of bit %d of %d bytes was not noticed", bit, len(bad))
			}
		}
		*part = good
	}
}

func FuzzParseSigned(f *testing.F) {
	f.Add([]byte(`{"payload":"e30=","signed_at":"2026-01-02T03:04:05Z","chain":["AA=="],"signature":"AA=="}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := ParseSigned(data)
		if err != nil {
			if homeward.KindOf(err) != homeward.Corrupt && homeward.KindOf(err) != homeward.Invalid {
				t.Fatalf("kind %s: %v", homeward.KindOf(err), err)
			}
			return
		}
		if _, err := Verify(nil, doc); err == nil {
			t.Fatal("verified without any authority")
		}
	})
}

func FuzzParsePEM(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if keys, err := parsePEM(data, keyBlock, parseKey); err == nil && len(keys) == 0 {
			t.Fatal("no key and no error")
		}
	})
}
