package homeward

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"time"
)

// Prober tries whether a machine is up. A configuration server is one beside its Site:
// it stands where the machine's network can be reached. Whoever asks tries again; a
// machine that does not answer is an answer, not an error.
type Prober interface {
	// Try tries once. Errors: Invalid for a bad request, Forbidden for a command or an
	// address that is not allowed there, Busy, Unsupported where nothing can be tried.
	Try(ctx context.Context, req TryRequest) (TryReport, error)
}

// MaxTry is how long one try may take.
const MaxTry = time.Minute

// TryRequest is exactly one of TCP, HTTP and Command.
type TryRequest struct {
	TCP  string `json:"tcp,omitempty"`  // host:port that must accept
	HTTP string `json:"http,omitempty"` // URL that must answer 2xx or 3xx; its certificate need not be known
	// Command is a program, by its absolute path, and its arguments; exit code 0: up. It
	// must have been allowed at the configuration server, is run without a shell, and is
	// killed when the time is over.
	Command []string      `json:"command,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"` // of this try; 0: 10 s; at most MaxTry
}

// TryReport is what a try found.
type TryReport struct {
	Up  bool   `json:"up"`
	Why string `json:"why,omitempty"` // it is not; at most 1 KiB
}

// Validate names the field that is wrong.
func (r TryRequest) Validate() error {
	bad := func(field, fix, format string, args ...any) error {
		return Errorf("check probe", Invalid, field, fix, format, args...)
	}
	given := 0
	for _, is := range []bool{r.TCP != "", r.HTTP != "", len(r.Command) > 0} {
		if is {
			given++
		}
	}
	if given != 1 {
		return bad("probe", "give one of tcp, http and command", "%d of them are given", given)
	}
	if r.Timeout < 0 || r.Timeout > MaxTry {
		return bad("probe.timeout", "give at most a minute for each try", "%v", r.Timeout)
	}
	var host string
	switch {
	case len(r.Command) > 0:
		if path := r.Command[0]; !filepath.IsAbs(path) || filepath.Clean(path) != path {
			return bad("probe.command", "give the program by its absolute path", "%q", path)
		}
		return nil
	case r.TCP != "":
		var port string
		var err error
		host, port, err = net.SplitHostPort(r.TCP)
		if n, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || host == "" || n == 0 {
			return bad("probe.tcp", "give host:port", "%q", r.TCP)
		}
	default:
		u, err := url.Parse(r.HTTP)
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
			return bad("probe.http", "give a URL such as http://host/health", "no such URL")
		}
		if u.User != nil { // it would be shown to everybody who may read
			return bad("probe.http", "probe what takes no password", "it holds a user or a password")
		}
		host = u.Hostname()
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLinkLocalUnicast() {
		return bad("probe", "give an address that the machine has in its network", "%s is a link-local one, which means another host to each", host)
	}
	return nil
}
