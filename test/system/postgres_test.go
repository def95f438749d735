package system

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/site/local"
	"github.com/homeward-dr/homeward/test/stage"
)

// PostgreSQL on ext4 over our NBD: no transaction committed before the point is
// lost by a failover, and none at all by a planned failback.
func TestPostgreSQLThroughFailoverAndFailback(t *testing.T) {
	t.Parallel()
	need(t, "nbdfuse", "losetup", "mkfs.ext4", "initdb", "pg_ctl", "psql", "setpriv", "fusermount3")
	r := build(t, stage.Options{DiskSize: 512 << 20, LinkMbit: 2000})
	r.tool("mkfs.ext4", "-q", "-F", strings.TrimPrefix(r.Home.Side.Disks[0], "file:"))
	home, away := newServer(r, r.Home), newServer(r, r.Away)
	r.Home.Side.Site, r.Away.Side.Site = home, away
	r.must(r.Item.Protect(r.ctx))

	c := home.insert(r, 300)
	r.replicated()
	c.more(200)
	point := r.newest()
	r.must(r.Lose(r.ctx, r.Home))
	c.end()
	home.wreck()
	least := c.committedBy(point.Mark.At)
	r.must(r.Item.FailOver(r.ctx, homeward.Position{}))
	if last := away.last(r); last < least {
		t.Fatalf("transaction %d was committed before the point, %d is the last one there", least, last)
	} else {
		t.Logf("%d transactions committed at home, %d before the point, %d there after failover", c.last(), least, last)
	}
	r.must(r.Item.Commit(r.ctx))
	r.must(r.Restore(r.ctx, r.Home))
	r.Home.Side.Site = home
	c = away.insert(r, 200)
	r.reprotect()
	c.more(200)
	c.end()
	r.must(r.Item.FailOverPlanned(r.ctx, homeward.Position{}))
	// One more may have been committed whose answer the client did not wait for.
	if last := home.last(r); last < c.last() || last > c.last()+1 {
		t.Fatalf("transaction %d was committed, %d is the last one after a planned failback", c.last(), last)
	}
	r.must(r.Item.Commit(r.ctx))
	r.reprotect()
}

// server is a site whose machine is a PostgreSQL server on this host: powering it
// on mounts its first disk and starts the database.
type server struct {
	*local.Site
	t    *testing.T
	name string
	dir  string // short, for it holds sockets; owned by the database's user

	mu    sync.Mutex
	disks map[homeward.DiskID]string
	loop  string
	fuse  *exec.Cmd
}

// nobody runs the database, which refuses to run as root.
const nobody = 65534

func newServer(r *rig, p *stage.Place) *server {
	r.t.Helper()
	dir, err := os.MkdirTemp("", "homeward-pg-")
	r.must(err)
	r.must(os.Chmod(dir, 0o755))
	s := &server{Site: p.Site, t: r.t, name: p.Name, dir: dir, disks: map[homeward.DiskID]string{}}
	for _, sub := range []string{"fuse", "mnt", "run"} {
		r.must(os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	r.must(os.Chown(filepath.Join(dir, "run"), nobody, nobody))
	r.t.Cleanup(func() {
		s.wreck()
		if err := os.RemoveAll(dir); err != nil {
			r.t.Error(err)
		}
	})
	return s
}

func done(key string, ref homeward.Ref) (homeward.Operation, error) {
	return homeward.Operation{ID: "0000000000000000", Key: key, State: homeward.OperationSucceeded, Result: ref}, nil
}

func (s *server) Create(_ context.Context, key string, m homeward.Machine, disks []homeward.Attachment) (homeward.Operation, error) {
	for _, d := range disks {
		s.disks[d.Disk] = d.Ref
	}
	return done(key, homeward.Ref{Native: string(m.Item)})
}

func (s *server) Attach(_ context.Context, key string, ref homeward.Ref, a homeward.Attachment) (homeward.Operation, error) {
	s.disks[a.Disk] = a.Ref
	return done(key, ref)
}

func (s *server) Detach(_ context.Context, key string, ref homeward.Ref, d homeward.DiskID) (homeward.Operation, error) {
	delete(s.disks, d)
	return done(key, ref)
}

func (s *server) PowerOn(ctx context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loop != "" {
		return done(key, ref)
	}
	if err := s.mount(ctx); err != nil {
		return homeward.Operation{}, err
	}
	if _, err := os.Stat(s.data()); err != nil {
		if err := os.Mkdir(s.data(), 0o700); err != nil {
			return homeward.Operation{}, err
		}
		if err := os.Chown(s.data(), nobody, nobody); err != nil {
			return homeward.Operation{}, err
		}
		if err := s.asNobody(ctx, "initdb", "-D", s.data(), "-U", "postgres", "-A", "trust"); err != nil {
			return homeward.Operation{}, err
		}
	}
	_ = os.Remove(filepath.Join(s.data(), "postmaster.pid")) // of a machine that died
	err := s.asNobody(ctx, "pg_ctl", "-D", s.data(), "-o", "-c listen_addresses='' -c shared_buffers=16MB -c dynamic_shared_memory_type=mmap -k "+filepath.Join(s.dir, "run"),
		"-l", filepath.Join(s.dir, "run", "log"), "-w", "start")
	if err != nil {
		return homeward.Operation{}, err
	}
	return done(key, ref)
}

func (s *server) data() string { return filepath.Join(s.dir, "mnt", "data") }

// mount goes agent → nbdfuse → loop → ext4.
func (s *server) mount(ctx context.Context) error {
	file := filepath.Join(s.dir, "fuse", "disk")
	s.fuse = exec.Command("nbdfuse", file, s.disks["web01-root"])
	if err := s.fuse.Start(); err != nil {
		return err
	}
	for {
		if st, err := os.Stat(file); err == nil && st.Size() > 0 {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond): // a mount tells nobody
		}
	}
	out, err := exec.CommandContext(ctx, "losetup", "-f", "--show", file).Output()
	if err != nil {
		return fmt.Errorf("losetup: %w", err)
	}
	s.loop = strings.TrimSpace(string(out))
	if err := unix.Mount(s.loop, filepath.Join(s.dir, "mnt"), "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", s.loop, err)
	}
	return nil
}

func (s *server) asNobody(ctx context.Context, name string, args ...string) error {
	args = append([]string{fmt.Sprint("--reuid=", nobody), fmt.Sprint("--regid=", nobody), "--clear-groups", "env", "HOME=/tmp", "LC_ALL=C", name}, args...)
	cmd := exec.CommandContext(ctx, "setpriv", args...)
	cmd.Dir = "/"
	log, err := os.Create(filepath.Join(s.dir, name+".out")) // a pipe would stay open in the daemon
	if err != nil {
		return err
	}
	defer log.Close() // only for the message
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		out, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%s at %s: %w\n%s", name, s.name, err, out)
	}
	return nil
}

func (s *server) PowerOff(ctx context.Context, key string, ref homeward.Ref, _ homeward.Stop) (homeward.Operation, error) {
	s.mu.Lock()
	loop := s.loop
	s.mu.Unlock()
	if loop != "" {
		if err := s.asNobody(ctx, "pg_ctl", "-D", s.data(), "-m", "fast", "-w", "stop"); err != nil {
			return homeward.Operation{}, err
		}
		s.wreck()
	}
	return done(key, ref)
}

// wreck takes the machine away, whatever state it is in: what it cannot end in
// order, because its disk is gone, it ends by force.
func (s *server) wreck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fuse == nil {
		return
	}
	if raw, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid")); err == nil {
		line, _, _ := strings.Cut(string(raw), "\n")
		if pid, err := strconv.Atoi(line); err == nil && pid > 1 {
			_ = unix.Kill(-pid, unix.SIGKILL) // the database is its own group
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	for range 100 { // until the last process of the database is gone
		if err := unix.Unmount(filepath.Join(s.dir, "mnt"), 0); err != unix.EBUSY { // plain errno
			break
		}
		time.Sleep(50 * time.Millisecond) // the kernel tells nobody
	}
	if s.loop != "" {
		_ = exec.Command("losetup", "-d", s.loop).Run() // gone with its file
	}
	_ = exec.Command("fusermount3", "-u", "-z", filepath.Join(s.dir, "fuse")).Run() // ended already
	_ = s.fuse.Process.Kill()
	_ = s.fuse.Wait()
	s.fuse, s.loop = nil, ""
}

// last is the newest transaction there; all before it must be there too.
func (s *server) last(r *rig) int {
	r.t.Helper()
	out := r.tool("psql", "-h", filepath.Join(s.dir, "run"), "-U", "postgres", "-At", "-F", " ", "-c", "select count(*), coalesce(max(n), 0) from done")
	var count, last int
	if _, err := fmt.Sscan(out, &count, &last); err != nil || count != last {
		r.t.Fatalf("at %s %d transactions up to number %d: %v", s.name, count, last, err)
	}
	return last
}

// client inserts numbers, one transaction each, as fast as the server commits.
type client struct {
	r    *rig
	cmd  *exec.Cmd
	in   io.WriteCloser
	ends chan struct{}

	mu    sync.Mutex
	times []time.Time // of commits; number first+i
	first int
	news  chan struct{}
}

// insert starts a client and returns when it has committed n transactions.
func (s *server) insert(r *rig, n int) *client {
	r.t.Helper()
	run := filepath.Join(s.dir, "run")
	r.tool("psql", "-h", run, "-U", "postgres", "-q", "-c", "create table if not exists done (n int primary key, pad text)")
	c := &client{r: r, first: s.last(r) + 1, ends: make(chan struct{}), news: make(chan struct{}, 1)}
	c.cmd = exec.Command("psql", "-h", run, "-U", "postgres", "-Atq")
	var err error
	c.in, err = c.cmd.StdinPipe()
	r.must(err)
	out, err := c.cmd.StdoutPipe()
	r.must(err)
	r.must(c.cmd.Start())
	go c.run(out)
	r.t.Cleanup(c.end)
	c.more(n)
	return c
}

// run sends the next transaction when the one before is committed.
func (c *client) run(out io.Reader) {
	defer close(c.ends)
	lines := bufio.NewScanner(out)
	for n := c.first; ; n++ {
		if _, err := fmt.Fprintf(c.in, "insert into done values (%d, repeat('x', 500)) returning n;\n", n); err != nil {
			return
		}
		if !lines.Scan() || lines.Text() != strconv.Itoa(n) {
			return
		}
		c.mu.Lock()
		c.times = append(c.times, time.Now())
		c.mu.Unlock()
		select {
		case c.news <- struct{}{}:
		default:
		}
	}
}

// more waits for n more commits.
func (c *client) more(n int) {
	c.r.t.Helper()
	for until := c.last() + n; c.last() < until; {
		select {
		case <-c.news:
		case <-c.ends:
			c.r.t.Fatalf("the database went away after transaction %d", c.last())
		case <-c.r.ctx.Done():
			c.r.t.Fatal(c.r.ctx.Err())
		}
	}
}

func (c *client) last() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first + len(c.times) - 1
}

// committedBy is the newest transaction whose commit was reported by t.
func (c *client) committedBy(t time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.first - 1
	for _, at := range c.times {
		if at.After(t) {
			break
		}
		n++
	}
	return n
}

// end ends the client; a transaction in flight is cut off.
func (c *client) end() {
	_ = c.cmd.Process.Kill() // it may have ended already
	<-c.ends
	_ = c.cmd.Wait()
}
