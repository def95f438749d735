package system

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// block is what the README has typed, and at which machines.
type block struct {
	text string
	at   []string // of "vault", "dr", "home"
}

// readme are the blocks of the part that sets everything up by hand, word for word.
func readme(t *testing.T) (blocks []block) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(raw), "\n## Set it up by hand\n")
	part, _, _ = strings.Cut(part, "\n## ")
	for _, found := range regexp.MustCompile("(?s)\n```sh\n(.*?)\n```\n").FindAllStringSubmatch(part, -1) {
		b := block{text: found[1]}
		first, _, _ := strings.Cut(b.text, "\n")
		places, placed := strings.CutPrefix(first, "# at ")
		switch {
		case !placed:
			b.at = []string{"vault"}
		case places == "every machine":
			b.at = []string{"vault", "dr", "home"}
		default:
			b.at = strings.Split(places, " and ")
		}
		blocks = append(blocks, b)
	}
	if len(blocks) < 15 {
		t.Fatalf("%d blocks are found in README.md: it is written in another way now", len(blocks))
	}
	return blocks
}

// machine is a shell at a machine: with a network, processes, a home and a /dev/shm of
// its own. All that was started there ends with it.
type machine struct {
	t    *testing.T
	home string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	said strings.Builder
}

const wrong = "--- went wrong: "

const isolated = "unshare -nmpf --mount-proc --kill-child bash"

// boot starts a shell by a command that makes the machine.
func boot(t *testing.T, ctx context.Context, name string, by ...string) *machine {
	t.Helper()
	m := &machine{t: t, home: filepath.Join(shortDir(t), name)}
	if err := os.MkdirAll(m.home, 0o700); err != nil {
		t.Fatal(err)
	}
	m.cmd = exec.CommandContext(ctx, by[0], by[1:]...)
	m.cmd.Dir = root
	m.cmd.Env = append(os.Environ(), "HOME="+m.home, "XDG_CONFIG_HOME=", "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "GOFLAGS=-buildvcs=false")
	var err error
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.out, m.cmd.Stderr = bufio.NewReader(out), m.cmd.Stdout
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = m.in.Close() // then the shell ends, and all that it started
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", name, m.said.String())
			logs, _ := filepath.Glob(filepath.Join(m.home, "lab", "*.log"))
			for _, path := range logs {
				raw, err := os.ReadFile(path)
				t.Logf("%s: %v\n%s", filepath.Base(path), err, raw[max(0, len(raw)-1000):])
			}
		}
	})
	m.types("set -E -o pipefail; trap 'echo \"" + wrong + "$BASH_COMMAND\"' ERR")
	m.types("ip link set lo up; mount -t tmpfs tmpfs /dev/shm")
	return m
}

// shortDir is a directory whose name leaves room for those of sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// types has a block run, as typed, and returns what it says.
func (m *machine) types(text string) string {
	m.t.Helper()
	const done = "--- typed ---"
	file := filepath.Join(m.home, "typed.sh")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(m.in, "source %s </dev/null 2>&1; echo '%s'\n", file, done); err != nil {
		m.t.Fatal(err)
	}
	from := m.said.Len()
	for {
		line, err := m.out.ReadString('\n')
		if err != nil {
			m.t.Fatalf("the shell ended amid:\n%s\n\nit said:\n%s", text, m.said.String()[from:])
		}
		if strings.TrimSpace(line) == done {
			return m.said.String()[from:]
		}
		m.said.WriteString(line)
		// That there is no way home is what the README wants to show while home is away.
		if command, is := strings.CutPrefix(strings.TrimSpace(line), wrong); is && !strings.HasPrefix(command, "source ") && (command != "homeward readiness web01" || !strings.Contains(text, "item failover")) {
			m.t.Fatalf("%q went wrong; it said:\n%s", command, m.said.String()[from:])
		}
	}
}

// walk types the README at machines, which have these addresses.
func walk(t *testing.T, at map[string]*machine, address map[string]string) {
	t.Helper()
	const here = "V=127.0.0.1 D=127.0.0.1 H=127.0.0.1"
	there := fmt.Sprintf("V=%s D=%s H=%s", address["vault"], address["dr"], address["home"])
	addressed, proved := false, false
	for _, b := range readme(t) {
		addressed = addressed || strings.Contains(b.text, here)
		var shells []*machine
		for _, name := range b.at {
			if m := at[name]; m == nil {
				t.Fatalf("the README has typed at %q, and tells of no such machine:\n%s", name, b.text)
			} else if !slices.Contains(shells, m) {
				shells = append(shells, m)
			}
		}
		for _, m := range shells {
			said := m.types(strings.ReplaceAll(b.text, here, there))
			proved = proved || strings.Contains(b.text, "homeward pki verify") && strings.Contains(said, "equal")
		}
		if strings.Contains(b.text, "enrol-token") {
			copyTokens(t, at)
		}
		if strings.Contains(b.text, "homeward vault init") {
			fromAnywhere(t, at, address["vault"])
		}
	}
	if !addressed || !proved {
		t.Errorf("the README tells how to give addresses: %t; and proves that both sides are equal: %t", addressed, proved)
	}
}

// copyTokens takes the tokens where the README has them copied to.
func copyTokens(t *testing.T, at map[string]*machine) {
	t.Helper()
	for _, site := range []string{"dr", "home"} {
		from, to := filepath.Join(at["vault"].home, "lab"), filepath.Join(at[site].home, "lab")
		if from == to {
			continue
		}
		tokens, err := filepath.Glob(filepath.Join(from, "*-"+site+".token"))
		if err != nil || len(tokens) != 4 {
			t.Fatalf("the tokens of %s: %q, %v", site, tokens, err)
		}
		for _, path := range tokens {
			raw, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(filepath.Join(to, filepath.Base(path)), raw, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// fromAnywhere logs in over the network, with what `vault init` told.
func fromAnywhere(t *testing.T, at map[string]*machine, address string) {
	t.Helper()
	said := at["vault"].said.String()
	token := regexp.MustCompile(`\s(hw\.admin\.[0-9a-f]+)`).FindStringSubmatch(said)
	fingerprint := regexp.MustCompile(`fingerprint of its authority:\s+([0-9a-f]{64})`).FindStringSubmatch(said)
	if token == nil || fingerprint == nil {
		t.Fatalf("`homeward vault init` tells no token or fingerprint:\n%s", said)
	}
	away := at["dr"]
	away.types(fmt.Sprintf("echo %s | HOMEWARD_PROFILE=$HOME/away.json homeward login --vault https://%s:8440 --fingerprint %s\nHOMEWARD_PROFILE=$HOME/away.json homeward status",
		token[1], address, fingerprint[1]))
}

var building sync.Mutex

func built(t *testing.T) {
	t.Helper()
	need(t, "bash", "make", "ip", "unshare", "nsenter", "setsid")
	building.Lock()
	defer building.Unlock()
	cmd := exec.CommandContext(t.Context(), "make", "build") // else a shell at a machine would, where it can fetch nothing
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
}

// A newcomer's walk through the README with nothing but its text, on one machine.
func TestReadmeOnOneMachine(t *testing.T) {
	t.Parallel()
	built(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	m := boot(t, ctx, "m", append([]string{"unshare", "-r"}, strings.Fields(isolated)[1:]...)...)
	local := "127.0.0.1"
	walk(t, map[string]*machine{"vault": m, "dr": m, "home": m}, map[string]string{"vault": local, "dr": local, "home": local})
}

// The same on three machines, with a network between them.
func TestReadmeOnThreeMachines(t *testing.T) {
	t.Parallel()
	built(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	network := exec.CommandContext(ctx, "unshare", "-rn", "sh", "-c", "ip link add br0 type bridge && ip link set br0 up && echo up && exec cat")
	hold, err := network.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := network.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := network.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hold.Close(); _ = network.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("no network of our own: %q, %v (user namespaces must be allowed)", line, err)
	}
	within := []string{"nsenter", "-t", fmt.Sprint(network.Process.Pid), "-U", "-n", "--preserve-credentials"}
	at, address := map[string]*machine{}, map[string]string{}
	for i, name := range []string{"vault", "dr", "home"} {
		m := boot(t, ctx, name, append(slices.Clone(within), strings.Fields(isolated)...)...)
		plug := fmt.Sprintf("ip link add p%d type veth peer name eth0 netns %d && ip link set p%d master br0 up", i, m.cmd.Process.Pid, i)
		if out, err := exec.CommandContext(ctx, within[0], append(within[1:], "sh", "-c", plug)...).CombinedOutput(); err != nil {
			t.Fatalf("plug %s in: %v\n%s", name, err, out)
		}
		at[name], address[name] = m, fmt.Sprintf("10.77.0.%d", i+1)
		m.types("ip addr add " + address[name] + "/24 dev eth0; ip link set eth0 up")
	}
	walk(t, at, address)
}
