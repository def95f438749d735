package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/member"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/site/local"
)

// siteFlags are those of a site's driver.
type siteFlags struct {
	name, driver string
	guest        string
	networks     []string
	machines     string
	probes       []string // programs that may be run to see whether a machine is up
	local        local.Config
}

// siteAndProber is what a configuration server is to the vault.
type siteAndProber struct {
	*local.Site
	*member.Prober
}

func (f *siteFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "site", "", "`name` of the site, as the vault knows it")
	flags.StringVar(&f.driver, "driver", "local", "what the site is: `local`, this machine")
	flags.StringArrayVar(&f.local.Datastores, "datastore", nil, "`directory` that holds disks of machines, several times; the first is the default")
	flags.StringArrayVar(&f.networks, "network", nil, "`name` of a network, followed by ':isolated' when no machine of production is on it (default: production, isolated:isolated)")
	flags.StringVar(&f.guest, "guest", string(local.GuestQEMU), "what machines run as: `qemu` or builtin")
	flags.StringVar(&f.local.QEMU, "qemu", "", "`path` of qemu-system-x86_64 (default: from PATH)")
	flags.StringVar(&f.local.Kernel, "kernel", "", "`file` of the kernel that guests boot directly (default: they boot from their disk)")
	flags.StringVar(&f.local.Initrd, "initrd", "", "`file` of its initrd")
	flags.StringVar(&f.local.Append, "append", "", "`words` added to its command line")
	flags.StringArrayVar(&f.local.Workload, "workload", nil, "`word` of the command of builtin machines, once for each (default: this program's own)")
	flags.BoolVar(&f.local.Tied, "tied", false, "end machines with this process; else they run on")
	flags.StringArrayVar(&f.probes, "allow-probe-command", nil, "absolute `path` of a program that operators may have run here, with any arguments, to see whether a machine is up; several times (default: none)")
	flags.StringVar(&f.machines, "machines", "", "`file` with a JSON list of machines to make if they are missing")
}

// config is what the local driver is opened with.
func (f *siteFlags) config(n node) (local.Config, error) {
	bad := func(flag, fix, format string, args ...any) (local.Config, error) {
		return local.Config{}, homeward.Errorf("read flags", homeward.Invalid, flag, fix, format, args...)
	}
	if err := homeward.ItemID(f.name).Validate(); err != nil {
		return bad("--site", "give the site's name: 1 to 64 letters, digits, '-' or '_'", "%q", f.name)
	}
	if f.driver != "local" {
		return bad("--driver", "give local", "no such driver: %q", f.driver)
	}
	for _, path := range f.probes {
		if err := (homeward.TryRequest{Command: []string{path}}).Validate(); err != nil {
			return bad("--allow-probe-command", "give the absolute path of a program", "%q", path)
		}
	}
	c := f.local
	if len(c.Datastores) == 0 {
		return bad("--datastore", "give at least one directory for disks", "missing")
	}
	dir, err := filepath.Abs(n.flags.dir) // operators are told where consoles are
	if err != nil {
		return bad("--dir", "give an absolute path", "%w", err)
	}
	c.Name, c.Dir, c.Guest, c.FS, c.Log = f.name, dir, local.Guest(f.guest), n.fs, n.log
	if c.Guest != local.GuestQEMU && c.Guest != local.GuestBuiltin {
		return bad("--guest", "give qemu or builtin", "%q", f.guest)
	}
	for _, given := range f.networks {
		name, label, labelled := strings.Cut(given, ":")
		if name == "" || labelled && label != "isolated" {
			return bad("--network", "give a name, or name:isolated", "%q", given)
		}
		c.Networks = append(c.Networks, local.Network{Name: name, Isolated: labelled})
	}
	for i, dir := range c.Datastores { // references to disks are told to other processes
		abs, err := filepath.Abs(dir)
		if err != nil {
			return bad("--datastore", "give an absolute path", "%w", err)
		}
		c.Datastores[i] = abs
	}
	if len(c.Workload) == 0 {
		self, err := os.Executable()
		if err != nil {
			return bad("--workload", "name the program to run", "%w", err)
		}
		c.Workload = []string{self, "workload"}
	}
	return c, nil
}

func (c *command) configurationServer() *cobra.Command {
	var f nodeFlags
	var site siteFlags
	cmd := &cobra.Command{Use: "configuration-server", Short: "Run a configuration server: it does at its site what the vault asks for", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.enrol.site = site.name // with the token of another site it would do there what is meant for here
			return c.runNode(cmd.Context(), pki.ConfigurationServer, f, func(ctx context.Context, n node) (opened, error) {
				return openConfigurationServer(ctx, n, site)
			})
		}}
	f.register(cmd)
	site.register(cmd)
	return cmd
}

func openConfigurationServer(ctx context.Context, n node, f siteFlags) (opened, error) {
	config, err := f.config(n)
	if err != nil {
		return opened{}, err
	}
	wanted, err := readMachines(f.machines)
	if err != nil {
		return opened{}, err
	}
	if err := n.fs.MkdirAll(n.flags.dir, 0o700); err != nil {
		return opened{}, err
	}
	lock, err := durable.LockFile(n.fs, filepath.Join(n.flags.dir, "lock"))
	if err != nil {
		return opened{}, homeward.Wrap(err, "open site", f.name)
	}
	s, err := local.Open(config)
	if err != nil {
		return opened{}, errors.Join(err, lock.Unlock())
	}
	shut := func() error {
		s.Close()
		return lock.Unlock()
	}
	if err := makeMachines(ctx, s, config.Datastores[0], wanted); err != nil {
		return opened{}, errors.Join(err, shut())
	}
	return opened{control: role.SiteHandler(siteAndProber{s, member.NewProber(f.probes...)}), close: shut}, nil
}
