package reprotect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward/bench/measure"
)

// snapshots is a disk as a file of a btrfs file system, and an older snapshot of it
// received by another.
type snapshots struct {
	r       *rig
	source  string // where the file systems are mounted
	target  string
	mounted []string
	newest  int // number of the snapshot that both have
}

func (r *rig) makeSnapshots(ctx context.Context, size int64) (_ *snapshots, err error) {
	s := &snapshots{r: r, source: filepath.Join(r.dir, "btrfs-source"), target: filepath.Join(r.dir, "btrfs-target")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
	}()
	if err := unmountDead(ctx); err != nil {
		return nil, err
	}
	for _, at := range []string{s.source, s.target} {
		if err := os.MkdirAll(at, 0o700); err != nil {
			return nil, err
		}
		image, err := os.OpenFile(at+".img", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		// Snapshots keep what is overwritten, and small changes cost whole leaves.
		if err := errors.Join(image.Truncate(3*size+gib), image.Close()); err != nil {
			return nil, err
		}
		if err := command(ctx, "mkfs.btrfs", "--quiet", at+".img"); err != nil {
			return nil, err
		}
		if err := command(ctx, "mount", "-o", "loop", at+".img", at); err != nil {
			return nil, err
		}
		s.mounted = append(s.mounted, at)
	}
	if err := command(ctx, "btrfs", "subvolume", "create", s.at(s.source, "live")); err != nil {
		return nil, err
	}
	if err := fill(ctx, r.b.Seed, size, s.at(s.source, "live", "disk.raw")); err != nil {
		return nil, err
	}
	_, err = r.take(ctx, pids{}, away, home, nil, func(x *attempt) error { return s.send(ctx, x, 0) })
	return s, err
}

// unmountDead unmounts what killed runs left mounted, and removes their images.
func unmountDead(ctx context.Context) error {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[2] != "btrfs" {
			continue
		}
		var pid int
		dir := filepath.Dir(f[1]) // of a rig
		if _, err := fmt.Sscanf(filepath.Base(dir), rigName+"%d-", &pid); err != nil {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !errors.Is(err, os.ErrNotExist) {
			continue // alive
		}
		if err := command(ctx, "umount", f[1]); err != nil {
			return err
		}
		if err := errors.Join(os.Remove(f[1]), os.Remove(f[1]+".img")); err != nil {
			return err
		}
	}
	return nil
}

func (s *snapshots) at(root string, rest ...string) string {
	return filepath.Join(append([]string{root}, rest...)...)
}

func (s *snapshots) close(ctx context.Context) (err error) {
	for _, at := range s.mounted {
		err = errors.Join(err, command(ctx, "umount", at))
	}
	for _, at := range []string{s.source, s.target} {
		err = errors.Join(err, os.RemoveAll(at+".img"), os.RemoveAll(at))
	}
	return err
}

func name(snapshot int) string { return fmt.Sprintf("s%d", snapshot) }

// attempt changes the disk, and times a snapshot of it and what is sent for that.
func (s *snapshots) attempt(ctx context.Context, c change) (measure.Values, error) {
	f, err := os.OpenFile(s.at(s.source, "live", "disk.raw"), os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(c.apply(ctx, f), f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	v, err := s.r.take(ctx, pids{}, away, home, nil, func(x *attempt) error { return s.send(ctx, x, s.newest+1) })
	if err != nil {
		return nil, err
	}
	for _, root := range []string{s.source, s.target} {
		if err := command(ctx, "btrfs", "subvolume", "delete", s.at(root, name(s.newest))); err != nil {
			return nil, err
		}
	}
	s.newest++
	if err := same(ctx, s.at(s.source, "live", "disk.raw"), s.at(s.target, name(s.newest), "disk.raw")); err != nil {
		return nil, err
	}
	c.tell(v)
	return v, nil
}

// send takes a snapshot and sends what it has beyond the one before, or all of the
// first, over a TCP connection that is the standard output of one program and the
// input of the other.
func (s *snapshots) send(ctx context.Context, x *attempt, snapshot int) (err error) {
	out, in, err := x.connect(ctx)
	if err != nil {
		return err
	}
	path := s.at(s.source, name(snapshot))
	err = x.source.run(ctx, "btrfs", "subvolume", "snapshot", "-r", s.at(s.source, "live"), path)
	args := []string{"send", "--quiet", path}
	if snapshot > 0 {
		args = []string{"send", "--quiet", "-p", s.at(s.source, name(snapshot-1)), path}
	}
	send, receive := exec.CommandContext(ctx, "btrfs", args...), exec.CommandContext(ctx, "btrfs", "receive", "--quiet", s.target)
	var saidS, saidR bytes.Buffer
	send.Stdout, send.Stderr, receive.Stdin, receive.Stderr = out, &saidS, in, &saidR
	if err == nil {
		err = x.target.begin(receive)
	}
	if err == nil {
		if err = x.source.begin(send); err != nil {
			_ = receive.Process.Kill() // nothing will come
		}
		_ = out.Close() // the program has its own, and its end is the end
		if err == nil {
			err = told(send, x.source.meter.Wait(send), &saidS)
		}
		err = errors.Join(err, told(receive, x.target.meter.Wait(receive), &saidR))
	}
	_ = out.Close()
	_ = in.Close()
	if err != nil {
		return err
	}
	root, err := os.Open(s.target)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(root.Fd())), root.Close())
}

// connect makes a TCP connection from the source to the target, as files for
// programs.
func (x *attempt) connect(ctx context.Context) (out, in *os.File, err error) {
	l, err := x.target.site.Listen(x.target.site.Free())
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	c, err := x.source.site.Dial(ctx, l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }() // the file is another handle
	d, err := l.Accept()
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if out, err = file(c); err != nil {
		return nil, nil, err
	}
	in, err = file(d)
	return out, in, err
}

func file(c net.Conn) (*os.File, error) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("%T is no TCP connection", c)
	}
	return tcp.File()
}

// command runs a program that is not measured.
func command(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	return told(cmd, cmd.Run(), &said)
}
