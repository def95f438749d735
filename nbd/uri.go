package nbd

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/homeward-dr/homeward"
)

// DefaultPort is the TCP port of NBD, used where a URI names none.
const DefaultPort = "10809"

// URI says where an export is. Its text form is that of the NBD URI
// specification: nbd://host[:port]/export, nbds://host[:port]/export,
// nbd+unix:///export?socket=/path and nbds+unix:///export?socket=/path.
type URI struct {
	Network string // "tcp" or "unix"
	Address string // host:port, or the path of the socket
	Export  string // name of the export; may be empty, which asks for the server's default
	TLS     bool   // nbds: nothing is said in the clear
	User    string // before the '@': with TLS, the name of the node that must be there; other servers mean users by it
}

// ParseURI reads the text form.
//
// Errors: homeward.Invalid naming the part that is wrong, homeward.Unsupported
// for schemes of NBD that are not spoken here (vsock, ssh).
func ParseURI(s string) (URI, error) {
	bad := func(fix, format string, args ...any) (URI, error) {
		return URI{}, homeward.Errorf("parse NBD URI", homeward.Invalid, s, fix, format, args...)
	}
	u, err := url.Parse(s)
	if err != nil {
		return bad("write it like nbd://host/export or nbd+unix:///export?socket=/path", "not a URI: %w", err)
	}
	base, secure := strings.CutPrefix(u.Scheme, "nbds")
	if !secure {
		base, _ = strings.CutPrefix(u.Scheme, "nbd")
	}
	if base == u.Scheme || (base != "" && base != "+unix" && base != "+vsock" && base != "+ssh") {
		return bad("use nbd, nbds, nbd+unix or nbds+unix", "scheme %q is not one of NBD", u.Scheme)
	}
	if base == "+vsock" || base == "+ssh" {
		return URI{}, homeward.Errorf("parse NBD URI", homeward.Unsupported, s, "use nbd, nbds, nbd+unix or nbds+unix",
			"scheme %q is not spoken here", u.Scheme)
	}
	out := URI{TLS: secure, Export: strings.TrimPrefix(u.Path, "/"), User: u.User.Username()}
	if len(out.Export) > MaxName {
		return bad("shorten it", "export name is longer than %d bytes", MaxName)
	}
	socket := u.Query().Get("socket")
	if base == "+unix" {
		if u.Host != "" {
			return bad("write three slashes after the scheme", "a unix socket has no host, but %q is given", u.Host)
		}
		if socket == "" {
			return bad("add ?socket=/path/of/socket", "socket is missing")
		}
		out.Network, out.Address = "unix", socket
		return out, nil
	}
	if socket != "" {
		return bad("use nbd+unix or nbds+unix", "socket is given with a TCP scheme")
	}
	host, port := u.Hostname(), u.Port()
	if _, err := netip.ParseAddr(host); err != nil && strings.Contains(host, ":") {
		return bad("write it like nbd://[::1]/export", "%q is no IPv6 address", host)
	}
	if host == "" {
		host = "localhost"
	}
	if port == "" {
		port = DefaultPort
	}
	out.Network, out.Address = "tcp", net.JoinHostPort(host, port)
	return out, nil
}

// UnixURI is the URI of an export on a unix socket of this machine.
func UnixURI(socket, export string) URI {
	return URI{Network: "unix", Address: socket, Export: export}
}

// String is the text form; ParseURI reads it back to the same URI.
func (u URI) String() string {
	out := url.URL{Scheme: "nbd", Path: "/" + u.Export}
	if u.TLS {
		out.Scheme = "nbds"
	}
	if u.User != "" {
		out.User = url.User(u.User)
	}
	if u.Network == "unix" {
		out.Scheme += "+unix"
		out.RawQuery = "socket=" + url.QueryEscape(u.Address)
		// url.URL writes an empty host as none; the specification wants three slashes.
		return out.Scheme + "://" + userPart(out.User) + out.EscapedPath() + "?" + out.RawQuery
	}
	out.Host = u.Address
	return out.String()
}

func userPart(u *url.Userinfo) string {
	if u == nil {
		return ""
	}
	return u.String() + "@"
}
