package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/demo"
	"github.com/homeward-dr/homeward/lab"
)

// demo plays the whole round trip on this machine.
func (c *command) demo() *cobra.Command {
	var o demo.Options
	var diskSize string
	var delay int
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play the whole round trip on this machine: protect, lose, fail over, reprotect, fail back",
		Long: `Plays the whole round trip on this machine with real processes, real disks and,
where QEMU is installed, a real guest: protects it, kills its site, fails it over,
runs it there, commits, reprotects, fails it back, commits, and protects it
forward again. Prints what each step took and proves both sides equal.`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Executable, err = os.Executable(); err != nil {
				return homeward.Errorf("start demo", homeward.IO, "executable", "run it by its path", "%w", err)
			}
			if o.DiskSize, err = lab.ParseSize(diskSize); err != nil {
				return err
			}
			o.LinkDelay = time.Duration(delay) * time.Millisecond
			return c.runDemo(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Guest.Kind, "guest", "auto", "what the machine runs as: `qemu`, builtin or auto")
	f.StringVar(&o.Guest.Dir, "guest-dir", "", "`directory` of the QEMU guest's kernel and initrd, made by 'make guest' (default cache/guest)")
	f.StringVar(&diskSize, "disk-size", "256MiB", "`size` of the machine's first disk")
	f.IntVar(&o.LinkMbit, "link-mbit", 0, "`Mbit/s` of the link between the sites; 0: as fast as it goes")
	f.IntVar(&delay, "link-delay-ms", 0, "`milliseconds` a byte takes over the link, one way")
	f.StringVar(&o.Point, "point", "latest", "recovery `point` to fail over to: latest, or an age such as -30s")
	f.StringVar(&o.Dir, "dir", "", "`directory` for everything, kept (default: a temporary one, removed)")
	f.BoolVar(&o.Keep, "keep", false, "leave everything running at the end, until Ctrl-C, and say how to look at it")
	return cmd
}

func (c *command) runDemo(ctx context.Context, o demo.Options) error {
	report, err := demo.Run(ctx, o, c.out, c.json)
	if c.json && len(report.Steps) > 0 { // of a demo that did not begin there is nothing to report
		if e := c.print(report, ""); err == nil {
			err = e
		}
	}
	return err
}
