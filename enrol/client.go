package enrol

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/wire"
)

// attemptTimeout is how long one address has to answer.
const attemptTimeout = 20 * time.Second

// knownFile in an identity directory holds where the vault said it can be reached.
const knownFile = "vault.json"

// Request is what a node enrols with.
type Request struct {
	Vaults    []string // host:port each, in order of preference
	Token     Token
	Peer      pki.Peer
	Site      string          // empty: the token's
	Addresses []vault.Address // of this node's data face
	Version   string
	Dir       string // identity directory to make
	FS        durable.FS
	Log       *slog.Logger
}

// Enrol makes Dir this node's identity: it makes a key there, shows the token to
// the vault, and keeps what it is granted. While no address can be reached, or the
// vault is busy, it goes on trying until ctx ends. Cut off at any moment it can be
// called again: the same key is shown, and the vault answers again while the token
// lasts. Errors: what the vault answered; Unauthentic also when whoever answers is
// not the vault of the token; Canceled.
func Enrol(ctx context.Context, r Request) error {
	if len(r.Vaults) == 0 {
		return homeward.Errorf("enrol", homeward.Invalid, "vault", "give the vault's host:port", "missing")
	}
	csr, err := pki.NewCSR(r.FS, r.Dir)
	if err != nil {
		return err
	}
	config := pki.PinnedTLS(r.Token.CA, pki.Vault)
	request := NodeRequest{Token: r.Token.Reveal(), CSR: csr, Peer: r.Peer, Site: r.Site, Addresses: r.Addresses, Version: r.Version}
	answer, err := persist(ctx, r.Log, func() (Answer, error) { return ask(ctx, config, r.Vaults, nodePath, request) })
	if err != nil {
		return homeward.Wrap(err, "enrol", r.Peer.String())
	}
	if !answer.Trusts(r.Token.CA) {
		return homeward.Errorf("enrol", homeward.Corrupt, r.Peer.String(), "look at the vault's log", "the vault answered with another authority than the token's")
	}
	// The addresses before the certificate, with which the identity is complete.
	if err := learn(r.FS, r.Dir, answer.Vault); err != nil {
		return err
	}
	return pki.Install(r.FS, r.Dir, r.Peer, answer.Grant)
}

// Renew asks the vault for a new certificate for a request of Identity.NewCSR: what
// Keep needs. addresses are those given by hand; those that the vault told are
// tried after them.
func Renew(id *pki.Identity, fsys durable.FS, dir string, addresses []string) func(ctx context.Context, csr []byte) (pki.Grant, error) {
	return func(ctx context.Context, csr []byte) (pki.Grant, error) {
		all, err := Addresses(fsys, dir, addresses)
		if err != nil {
			return pki.Grant{}, err
		}
		answer, err := ask(ctx, id.ClientTLS(pki.Vault), all, renewPath, RenewRequest{CSR: csr})
		if err != nil {
			return pki.Grant{}, err
		}
		return answer.Grant, learn(fsys, dir, answer.Vault)
	}
}

// persist repeats do while it may help: the pause doubles, from one second to one
// minute.
func persist(ctx context.Context, log *slog.Logger, do func() (Answer, error)) (Answer, error) {
	told := ""
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		answer, err := do()
		if err == nil || !homeward.Retryable(err) || ctx.Err() != nil {
			return answer, err
		}
		if text := err.Error(); text != told {
			log.Warn("cannot enrol yet", "error", err)
			told = text
		}
		select {
		case <-ctx.Done():
			return Answer{}, homeward.Wrap(ctx.Err(), "enrol", "")
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		}
	}
}

// ask tries one address after the other; the first at which the vault answers
// decides. Of errors on the way, one that says more than "not reachable" is told.
func ask(ctx context.Context, config *tls.Config, addresses []string, path string, request any) (Answer, error) {
	var told error
	for _, addr := range addresses {
		answer, answered, err := post(ctx, config, addr, path, request)
		if answered || ctx.Err() != nil {
			return answer, err
		}
		if told == nil || homeward.Retryable(told) {
			told = err
		}
	}
	if told == nil {
		told = homeward.Errorf("ask vault", homeward.Invalid, "vault", "give the vault's host:port", "no address is known")
	}
	return Answer{}, told
}

// post asks at one address. answered: the vault was there, and said err itself.
func post(ctx context.Context, config *tls.Config, addr, path string, request any) (answer Answer, answered bool, err error) {
	const op = "ask vault"
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return Answer{}, false, homeward.Errorf(op, homeward.Internal, path, "", "%w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, false, homeward.Errorf(op, homeward.Invalid, addr, "give the vault's host:port", "%w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	config = config.Clone()
	config.NextProtos = []string{Protocol, http1}
	t := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: attemptTimeout / 2}).DialContext}
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(r)
	if err != nil {
		return Answer{}, false, pki.Explain(err, op, addr)
	}
	defer func() { _ = resp.Body.Close() }() // read whole, or given up
	err = wire.ReadDocument(resp, maxAnswer, &answer)
	answered = err == nil || resp.StatusCode >= 400 && homeward.KindOf(err) != homeward.Unavailable
	return answer, answered, homeward.Wrap(err, op, addr)
}

// known is the record in knownFile.
type known struct {
	Vault []vault.Address `json:"vault"`
}

func learn(fsys durable.FS, dir string, list []vault.Address) error {
	if len(list) == 0 {
		return nil
	}
	if err := ValidateAddresses(list); err != nil {
		return homeward.Errorf("learn addresses", homeward.Corrupt, dir, "look at the vault's log", "%w", err)
	}
	return durable.WriteJSON(fsys, filepath.Join(dir, knownFile), known{list})
}

// Addresses are all at which the vault may answer, each once: first those given,
// then those it told this node, production before failback.
func Addresses(fsys durable.FS, dir string, given []string) ([]string, error) {
	var k known
	if err := durable.ReadJSON(fsys, filepath.Join(dir, knownFile), &k); err != nil && homeward.KindOf(err) != homeward.NotFound {
		return nil, homeward.Wrap(err, "read addresses", dir)
	}
	seen := map[string]bool{}
	var all []string
	add := func(addr string) {
		if !seen[addr] {
			seen[addr] = true
			all = append(all, addr)
		}
	}
	for _, a := range given {
		add(a)
	}
	for _, purpose := range []vault.Purpose{vault.Production, vault.Failback} {
		for _, a := range k.Vault {
			if a.Purpose == purpose {
				add(a.Host)
			}
		}
	}
	return all, nil
}
