package member

import (
	"bufio"
	"context"
	"crypto/tls"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
)

// Config is what a Member needs; all of it may be left out.
type Config struct {
	// TLS shows this node's certificate to the peers that are probed and checks
	// theirs; nil: Probe is Unsupported.
	TLS *tls.Config
	// Tell adds what the role knows to a heartbeat: alarms, disks, volumes, and the
	// generations if the request asks for them. It must be cheap.
	Tell func(homeward.HealthRequest, *homeward.HealthReport)
	Now  func() time.Time // default time.Now
}

// Member implements homeward.Member. Safe for concurrent use.
type Member struct {
	config  Config
	family  string // of the operating system
	version string // of it; empty: not known
	machine string // UUID that this machine's firmware tells; empty: not known
	probes  chan struct{}
}

var _ homeward.Member = (*Member)(nil)

// New makes a member.
func New(c Config) *Member {
	if c.Tell == nil {
		c.Tell = func(homeward.HealthRequest, *homeward.HealthReport) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	m := &Member{config: c, machine: productUUID("/sys/class/dmi/id/product_uuid"), probes: make(chan struct{}, maxProbes)}
	m.family, m.version = System()
	return m
}

// Health implements homeward.Member.
func (m *Member) Health(_ context.Context, req homeward.HealthRequest) (homeward.HealthReport, error) {
	r := homeward.HealthReport{At: m.config.Now().UTC(), OSFamily: m.family, OSVersion: m.version, Machine: m.machine}
	m.config.Tell(req, &r)
	return r, nil
}

// System is the operating system that this process runs on; a version that it does
// not tell is empty.
func System() (family, version string) { return runtime.GOOS, osVersion("/etc/os-release") }

// productUUID is what the firmware of this machine calls it; empty where there is
// none, or where only root may read it.
func productUUID(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(string(text)))
}

// osVersion is what an os-release file calls the system; empty if it says nothing.
func osVersion(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	named := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, is := strings.Cut(lines.Text(), "="); is {
			named[name] = strings.Trim(value, `"'`)
		}
	}
	if named["PRETTY_NAME"] != "" {
		return named["PRETTY_NAME"]
	}
	return strings.TrimSpace(named["NAME"] + " " + named["VERSION_ID"])
}
