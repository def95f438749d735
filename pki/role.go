package pki

import (
	"net/url"
	"slices"
	"strings"

	"github.com/homeward-dr/homeward"
)

// Role is what a node does.
type Role string

// The roles.
const (
	Agent               Role = "agent"
	ProcessServer       Role = "process-server"
	MasterTarget        Role = "master-target"
	ConfigurationServer Role = "configuration-server"
	Vault               Role = "vault" // the controller that all others dial
)

// Roles are all of them.
func Roles() []Role {
	return []Role{Agent, ProcessServer, MasterTarget, ConfigurationServer, Vault}
}

func listOf(roles []Role) string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

// Peer is who is at the other end: what an identity's certificate says.
type Peer struct {
	Role Role   `json:"role"`
	Name string `json:"name"` // 1 to 64 letters, digits, '-' or '_'
}

// String is for people: "agent web01".
func (p Peer) String() string { return string(p.Role) + " " + p.Name }

// URI is what stands in the certificate: homeward://agent/web01.
func (p Peer) URI() *url.URL {
	return &url.URL{Scheme: "homeward", Host: string(p.Role), Path: "/" + p.Name}
}

// Validate refuses unknown roles and names that could not be a path element.
func (p Peer) Validate() error {
	if !slices.Contains(Roles(), p.Role) {
		return homeward.Errorf("validate identity", homeward.Invalid, "role",
			"give one of "+listOf(Roles()), "no such role: %q", string(p.Role))
	}
	if homeward.ItemID(p.Name).Validate() != nil {
		return homeward.Errorf("validate identity", homeward.Invalid, "name",
			"use 1 to 64 letters, digits, '-' or '_'", "not a node name: %q", p.Name)
	}
	return nil
}

// parsePeer reads what URI wrote, and nothing else.
func parsePeer(u *url.URL) (Peer, error) {
	p := Peer{Role: Role(u.Host), Name: strings.TrimPrefix(u.Path, "/")}
	if err := p.Validate(); err != nil {
		return Peer{}, err
	}
	if u.String() != p.URI().String() {
		return Peer{}, homeward.Errorf("read identity", homeward.Invalid, u.String(),
			"issue the certificate again", "not of the form homeward://role/name")
	}
	return p, nil
}
