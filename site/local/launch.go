package local

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
)

// launch starts a machine's process; the caller holds mu.
func (s *Site) launch(m *machine) (process, error) {
	if s.cfg.Guest == GuestBuiltin {
		args := append([]string(nil), s.cfg.Workload[1:]...)
		for _, d := range m.Disks {
			args = append(args, "--disk", d.Ref)
		}
		return s.start(s.cfg.Workload[0], args, s.console(m.Native))
	}
	args, err := s.qemuArgs(m)
	if err != nil {
		return process{}, err
	}
	_ = os.Remove(s.control(m.Native)) // a socket left by a guest that was killed
	return s.start(s.qemu(), args, s.console(m.Native))
}

// control is the unix socket behind the guest's second serial port: the guest
// reads commands from it ("poweroff").
func (s *Site) control(native string) string { return s.dir("run", native+".ctl") }

// qemuArgs is the command line of a guest. Software emulation is asked for by
// name: a machine that has /dev/kvm may still not be able to use it.
func (s *Site) qemuArgs(m *machine) ([]string, error) {
	memory := m.Machine.MemoryMiB
	if memory == 0 {
		memory = 128
	}
	args := []string{"-accel", "tcg", "-machine", "q35", "-m", fmt.Sprint(memory), "-smp", fmt.Sprint(max(m.Machine.CPUs, 1)),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "stdio",
		"-chardev", "socket,id=ctl,server=on,wait=off,path=" + s.control(m.Native), "-serial", "chardev:ctl"}
	if s.cfg.Kernel != "" {
		args = append(args, "-kernel", s.cfg.Kernel, "-initrd", s.cfg.Initrd,
			"-append", strings.TrimSpace("console=ttyS0 quiet panic=-1 "+s.cfg.Append))
	}
	for i, d := range m.Disks {
		node, err := blockdev(i, d)
		if err != nil {
			return nil, err
		}
		// Not NVMe: QEMU 7.2 loses a doorbell now and then on a busy host, and the guest
		// waits for its disk for a minute.
		args = append(args, "-blockdev", node, "-device", fmt.Sprintf("virtio-blk-pci,drive=d%d,serial=%.20s", i, string(d.Disk)))
	}
	return args, nil
}

// blockdev is QEMU's description of one disk. An NBD disk whose server goes away
// makes the guest wait, not fail, also at its start: the agent may be restarting.
func blockdev(i int, d homeward.Attachment) (string, error) {
	u, err := url.Parse(d.Ref)
	if err != nil {
		return "", homeward.Errorf("attach disk", homeward.Invalid, "ref "+d.Ref, "give a URI", "%w", err)
	}
	ro := "off"
	if d.ReadOnly {
		ro = "on"
	}
	comma := strings.NewReplacer(",", ",,")
	switch u.Scheme {
	case "file":
		return fmt.Sprintf("driver=raw,node-name=d%d,read-only=%s,file.driver=file,file.filename=%s", i, ro, comma.Replace(u.Path)), nil
	case "nbd+unix":
		return fmt.Sprintf("driver=nbd,node-name=d%d,read-only=%s,server.type=unix,server.path=%s,export=%s,reconnect-delay=60,open-timeout=30",
			i, ro, comma.Replace(u.Query().Get("socket")), comma.Replace(strings.TrimPrefix(u.Path, "/"))), nil
	case "nbd":
		host, port := u.Hostname(), u.Port()
		if port == "" {
			port = "10809"
		}
		return fmt.Sprintf("driver=nbd,node-name=d%d,read-only=%s,server.type=inet,server.host=%s,server.port=%s,export=%s,reconnect-delay=60,open-timeout=30",
			i, ro, host, port, comma.Replace(strings.TrimPrefix(u.Path, "/"))), nil
	}
	return "", homeward.Errorf("attach disk", homeward.Unsupported, "ref "+d.Ref,
		"use file:, nbd: or nbd+unix:", "a local guest cannot start from %q", u.Scheme)
}

// askToStop asks a guest to power off; whether it heard is seen by its end. The
// answer gives up the asking: a guest that has not read yet must find the line open.
func (s *Site) askToStop(native string, p process) (giveUp func()) {
	giveUp = func() {}
	var err error
	if s.cfg.Guest == GuestBuiltin {
		err = p.terminate()
	} else {
		var conn net.Conn
		if conn, err = net.DialTimeout("unix", s.control(native), time.Second); err == nil {
			giveUp = func() { _ = conn.Close() }
			_, err = conn.Write([]byte("poweroff\n"))
		}
	}
	if err != nil {
		s.cfg.Log.Warn("guest not asked to stop", "machine", native, "error", err)
	}
	return giveUp
}
