package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/site/local/workload"
)

// workload is the built-in guest of a local site.
func (c *command) workload() *cobra.Command {
	var disks []string
	var gap time.Duration
	var churn int
	var verify bool
	cmd := &cobra.Command{
		Use:    "workload",
		Short:  "Keep a record store on disks: the built-in guest of a local site",
		Hidden: true,
		Args:   arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			opened, closeAll, err := openDisks(cmd.Context(), c.logger(), disks, verify)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closeAll()) }()
			if !verify {
				return workload.Run(cmd.Context(), workload.Options{Disks: opened, Console: c.out, Gap: gap, Churn: churn})
			}
			found, err := workload.Verify(opened)
			if err != nil {
				return err
			}
			return c.print(found, "%s", found.Verify())
		},
	}
	cmd.Flags().StringArrayVar(&disks, "disk", nil, "`reference` of a disk: file:/path, nbd+unix:///export?socket=path; once for each")
	cmd.Flags().DurationVar(&gap, "gap", 5*time.Millisecond, "`time` between records")
	cmd.Flags().IntVar(&churn, "churn", 8, "scratch `blocks` overwritten for each record")
	cmd.Flags().BoolVar(&verify, "verify", false, "only tell what the disks hold")
	return cmd
}

// openPatiently waits for a disk whose server is restarting, as QEMU does.
func openPatiently(ctx context.Context, known block.Openers, ref string, m block.Mode) (block.Disk, error) {
	patience, cancel := context.WithTimeout(ctx, reconnectDeadline)
	defer cancel()
	for {
		d, err := known.Open(ctx, ref, m)
		if err == nil || !homeward.Retryable(err) {
			return d, err
		}
		again := time.NewTimer(100 * time.Millisecond)
		select {
		case <-again.C:
		case <-patience.Done():
			return nil, err
		}
	}
}

// openDisks opens all or none.
func openDisks(ctx context.Context, log *slog.Logger, refs []string, readOnly bool) ([]block.Disk, func() error, error) {
	var disks []block.Disk
	closeAll := func() error {
		var errs []error
		for _, d := range disks {
			errs = append(errs, d.Close())
		}
		return errors.Join(errs...)
	}
	if len(refs) == 0 {
		return nil, nil, homeward.Errorf("read flags", homeward.Invalid, "--disk", "give at least one", "missing")
	}
	known := openers(nil, log)
	for _, ref := range refs {
		d, err := openPatiently(ctx, known, ref, block.Mode{ReadOnly: readOnly})
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		disks = append(disks, d)
	}
	return disks, closeAll, nil
}
