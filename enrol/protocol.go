package enrol

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// Protocol is what a node offers as application protocol (ALPN) to enrol or renew.
// HTTP/1.1, which it offers too, is what is then spoken.
const Protocol = "homeward-enrol/1"

const http1 = "http/1.1"

// Bounds.
const (
	MaxBody      = 64 << 10 // bytes of a request
	maxAnswer    = 16 << 20 // bytes of an answer; a revocation list may be long
	maxAddresses = 16       // of a node, and of a vault
	maxVersion   = 64       // characters of a version
)

const (
	nodePath  = "/enrol/v1/node"
	renewPath = "/enrol/v1/renew"
)

// NodeRequest asks to be let in.
type NodeRequest struct {
	Token string `json:"token"`
	CSR   []byte `json:"csr"` // PKCS #10, DER
	pki.Peer
	Site      string          `json:"site,omitempty"`      // empty: the token's
	Addresses []vault.Address `json:"addresses,omitempty"` // of the data face, for peers
	Version   string          `json:"version,omitempty"`   // of the node's build
}

func (r NodeRequest) validate() error {
	if err := r.Validate(); err != nil {
		return err
	}
	if len(r.Version) > maxVersion {
		return homeward.Errorf("enrol", homeward.Invalid, "version", "send at most 64 characters", "%d characters", len(r.Version))
	}
	return ValidateAddresses(r.Addresses)
}

// RenewRequest asks for a new certificate for the node whose certificate the
// connection was made with.
type RenewRequest struct {
	CSR []byte `json:"csr"`
}

// Answer is what both are answered with.
type Answer struct {
	pki.Grant
	Vault []vault.Address `json:"vault"` // where the vault can be reached, from now on
	Node  vault.Node      `json:"node"`
}

// ValidateAddresses refuses, naming it, an address that is not host:port with a
// known purpose. At most 16.
func ValidateAddresses(list []vault.Address) error {
	const op = "validate addresses"
	if len(list) > maxAddresses {
		return homeward.Errorf(op, homeward.Invalid, "addresses", "give at most 16", "%d addresses", len(list))
	}
	for _, a := range list {
		host, port, err := net.SplitHostPort(a.Host)
		if n, numErr := strconv.Atoi(port); err != nil || numErr != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port || !isHost(host) {
			return homeward.Errorf(op, homeward.Invalid, "addresses", "give host:port, such as mt.example.org:7443", "%q", a.Host)
		}
		if a.Purpose != vault.Production && a.Purpose != vault.Failback {
			return homeward.Errorf(op, homeward.Invalid, "addresses", "label it production or failback", "%s is for %q", a.Host, a.Purpose)
		}
	}
	return nil
}

// isHost reports whether s is an IP address or what could be a host's name. Peers
// are told it as part of a URL, which it must not change.
func isHost(s string) bool {
	if strings.Contains(s, ":") {
		ip, err := netip.ParseAddr(s)
		return err == nil && ip.Zone() == ""
	}
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// decode reads the one document of a request, strictly.
func decode(r io.Reader, into any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("something follows the document")
		}
	}
	const op, remedy = "read request", "send the one JSON document that this path takes; update this node or the vault"
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return homeward.Errorf(op, homeward.Invalid, "body", "send less", "longer than %d bytes", long.Limit)
	}
	return homeward.Errorf(op, homeward.Invalid, "body", remedy, "%w", err)
}
