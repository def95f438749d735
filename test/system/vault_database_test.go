package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// database is a PostgreSQL server for a vault's store, on a socket of its own.
type database struct {
	t   *testing.T
	dir string // short, for it holds a socket
}

func startDatabase(t *testing.T) *database {
	t.Helper()
	need(t, "initdb", "pg_ctl", "setpriv")
	dir, err := os.MkdirTemp("", "homeward-pg-")
	if err != nil {
		t.Fatal(err)
	}
	d := &database{t, dir}
	t.Cleanup(func() {
		_ = d.run("pg_ctl", "-D", d.data(), "-m", "immediate", "-w", "stop") // if it runs
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if os.Getuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	d.must(d.run("initdb", "-D", d.data(), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"))
	d.start()
	return d
}

func (d *database) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *database) data() string { return filepath.Join(d.dir, "data") }

func (d *database) url() string { return "postgres:///postgres?host=" + d.dir + "&user=postgres" }

func (d *database) start() {
	d.t.Helper()
	d.must(d.run("pg_ctl", "-D", d.data(), "-l", filepath.Join(d.dir, "log"), "-w",
		"-o", "-c listen_addresses='' -c shared_buffers=32MB -c dynamic_shared_memory_type=mmap -k "+d.dir, "start"))
}

// restart ends the server as a crash would, and starts it again.
func (d *database) restart() {
	d.t.Helper()
	d.must(d.run("pg_ctl", "-D", d.data(), "-m", "immediate", "-w", "stop"))
	d.start()
}

func (d *database) run(name string, args ...string) error {
	args = append([]string{"env", "HOME=/tmp", "LC_ALL=C", name}, args...)
	if os.Getuid() == 0 { // which it refuses
		args = append([]string{"setpriv", fmt.Sprint("--reuid=", nobody), fmt.Sprint("--regid=", nobody), "--clear-groups"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	out, err := os.Create(filepath.Join(d.dir, name+".out")) // a pipe would stay open in the server
	if err != nil {
		return err
	}
	defer out.Close() // only for the message
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		return fmt.Errorf("%s: %w\n%s", name, err, text)
	}
	return nil
}
