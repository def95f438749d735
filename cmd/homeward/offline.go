package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/mastertarget"
)

// offlineFlags are those of the commands that use a retention volume with nothing
// else alive. The master target of the volume must not run meanwhile.
type offlineFlags struct {
	dir, sockets, item, point string
	withParent                bool
}

func (f *offlineFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "dir", "", "`directory` of the master target")
	cmd.Flags().StringVar(&f.item, "item", "", "name of the `item`; may be left out where there is only one")
}

func (f *offlineFlags) registerServing(cmd *cobra.Command) {
	f.register(cmd)
	cmd.Flags().StringVar(&f.point, "point", "latest",
		"which `point`: latest, a position as 'points' lists it, or the newest one at a time (2026-01-31T12:00:00Z) or an age before the latest (-30s)")
	cmd.Flags().StringVar(&f.sockets, "sockets", "", "`directory` of the NBD socket (default: DIR/sockets)")
	cmd.Flags().BoolVar(&f.withParent, "with-parent", false, "end when standard input does")
}

// offline opens the volume, does something with it, and closes it.
func (c *command) offline(ctx context.Context, f offlineFlags, do func(context.Context, *mastertarget.Target, *views) error) (err error) {
	if err := required("--dir", f.dir, "the directory of the master target"); err != nil {
		return err
	}
	if f.sockets == "" {
		f.sockets = filepath.Join(f.dir, "sockets")
	}
	if f.sockets, err = socketDir(f.sockets); err != nil {
		return err
	}
	if f.withParent {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go endWithInput(c.in, cancel) // its read ends with the process at the latest
	}
	log := c.logger()
	v := newViews(f.sockets, log)
	closing := func(shut func(context.Context) error) {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(err, shut(limited))
	}
	defer closing(v.close)
	t, err := mastertarget.OpenOffline(context.WithoutCancel(ctx), mastertarget.Config{
		Dir: f.dir, Openers: openers(nil, log), NBD: v.server, URI: v.uri, Log: log,
	})
	if err != nil {
		return err
	}
	defer closing(t.Close)
	return do(ctx, t, v)
}

// items are the one that was named, or all.
func (f *offlineFlags) items(t *mastertarget.Target) ([]homeward.ItemID, error) {
	id, here := homeward.ItemID(f.item), t.Items()
	switch {
	case id == "":
		return here, nil
	case slices.Contains(here, id):
		return []homeward.ItemID{id}, nil
	}
	return nil, homeward.Errorf("choose item", homeward.NotFound, "--item", "the items here: "+names(here), "no item %q here", f.item)
}

func names(items []homeward.ItemID) string {
	if len(items) == 0 {
		return "none"
	}
	list := make([]string, len(items))
	for i, id := range items {
		list[i] = string(id)
	}
	return strings.Join(list, ", ")
}

// one is the item that was named, or the only one there is.
func (f *offlineFlags) one(t *mastertarget.Target) (homeward.ItemID, error) {
	items, err := f.items(t)
	switch {
	case err != nil:
		return "", err
	case len(items) == 0:
		return "", homeward.Errorf("choose item", homeward.NotFound, f.dir, "give the directory of another master target", "all items here were forgotten")
	case len(items) > 1:
		return "", homeward.Errorf("choose item", homeward.Invalid, "--item", "give one of: "+names(items), "the volume holds %d items", len(items))
	}
	return items[0], nil
}

// itemPoints is the JSON form of 'points' for one item.
type itemPoints struct {
	Item   homeward.ItemID  `json:"item"`
	Points []homeward.Point `json:"points"`
}

func (c *command) offlinePoints() *cobra.Command {
	var f offlineFlags
	cmd := &cobra.Command{Use: "points --dir DIR", Short: "List the recovery points on a volume", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.offline(cmd.Context(), f, func(ctx context.Context, t *mastertarget.Target, _ *views) error {
				list := []itemPoints{}
				rows := [][]any{{"ITEM", "TIME", "KIND", "PINS", "UNDO BYTES", "POSITION"}}
				items, err := f.items(t)
				if err != nil {
					return err
				}
				for _, id := range items {
					got, err := t.Points(ctx, homeward.ItemRequest{Item: id})
					if err != nil {
						return err
					}
					list = append(list, itemPoints{id, got.Points})
					for _, p := range got.Points {
						rows = append(rows, []any{id, p.At.Format(time.RFC3339Nano), p.Mark.Kind, strings.Join(p.Pins, " "), p.UndoBytes, p.Position})
					}
				}
				return c.printEither(list, rows)
			})
		}}
	f.register(cmd)
	return cmd
}

// itemVerified is the JSON form of 'verify' for one item.
type itemVerified struct {
	Item homeward.ItemID `json:"item"`
	homeward.VerifyReport
}

func (c *command) offlineVerify() *cobra.Command {
	var f offlineFlags
	cmd := &cobra.Command{Use: "verify --dir DIR", Short: "Check everything on a volume against its checksums", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.offline(cmd.Context(), f, func(ctx context.Context, t *mastertarget.Target, _ *views) error {
				faults := 0
				list := []itemVerified{}
				rows := [][]any{{"ITEM", "FILES", "BYTES", "FAULT"}}
				items, err := f.items(t)
				if err != nil {
					return err
				}
				for _, id := range items {
					r, err := t.Verify(ctx, homeward.ItemRequest{Item: id})
					if err != nil {
						return err
					}
					list = append(list, itemVerified{id, r})
					rows = append(rows, []any{id, r.Files, r.Bytes, fmt.Sprintf("%d faults", len(r.Faults))})
					for _, fault := range r.Faults {
						rows = append(rows, []any{id, "", "", fault})
					}
					faults += len(r.Faults)
				}
				if err := c.printEither(list, rows); err != nil {
					return err
				}
				if faults > 0 {
					return homeward.Errorf("verify volume", homeward.Corrupt, f.dir, "do for each what its line says", "%d files are damaged", faults)
				}
				return nil
			})
		}}
	f.register(cmd)
	return cmd
}

func (c *command) offlineServe() *cobra.Command {
	var f offlineFlags
	var scratch bool
	cmd := &cobra.Command{Use: "serve --dir DIR", Short: "Serve a point over NBD until interrupted", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			kind := homeward.ViewReadOnly
			if scratch {
				kind = homeward.ViewScratch
			}
			return c.offline(cmd.Context(), f, func(ctx context.Context, t *mastertarget.Target, v *views) error {
				return c.serveView(ctx, t, v, f, func(id homeward.ItemID, at homeward.Position) (homeward.View, error) {
					return t.OpenView(ctx, homeward.ViewRequest{Item: id, Name: "offline", Point: at, Kind: kind})
				})
			})
		}}
	f.registerServing(cmd)
	cmd.Flags().BoolVar(&scratch, "scratch", false, "let the guest write; what it writes is dropped at the end")
	return cmd
}

func (c *command) offlineRecover() *cobra.Command {
	var f offlineFlags
	cmd := &cobra.Command{Use: "recover --dir DIR", Short: "Break glass: fail an item over with nothing else alive, and serve its disks until interrupted",
		Long: "Fails an item over to a point under a new generation, and serves its disks for writing until\n" +
			"interrupted. What is written stays, and the same command serves it again; another --point drops it.\n" +
			"The vault adopts the result when it is back.",
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.offline(cmd.Context(), f, func(ctx context.Context, t *mastertarget.Target, v *views) error {
				return c.serveView(ctx, t, v, f, func(id homeward.ItemID, at homeward.Position) (homeward.View, error) {
					return mastertarget.Recover(ctx, t, id, at)
				})
			})
		}}
	f.registerServing(cmd)
	return cmd
}

// serveView opens a view of the chosen point, says where it is, and serves it
// until ctx ends.
func (c *command) serveView(ctx context.Context, t *mastertarget.Target, v *views, f offlineFlags, open func(homeward.ItemID, homeward.Position) (homeward.View, error)) error {
	id, err := f.one(t)
	if err != nil {
		return err
	}
	list, err := t.Points(ctx, homeward.ItemRequest{Item: id})
	if err != nil {
		return err
	}
	at, err := choosePoint(list.Points, f.point)
	if err != nil {
		return err
	}
	view, err := open(id, at)
	if err != nil {
		return err
	}
	if err := v.serve(); err != nil {
		return err
	}
	rows := [][]any{{"ITEM", "POINT", "KIND", "GENERATION", "DISK", "URI"}}
	for _, d := range view.Disks {
		rows = append(rows, []any{id, view.Point.At.Format(time.RFC3339Nano), view.Kind, view.Generation.Number, d.Disk, d.URI})
	}
	if err := c.printEither(view, rows); err != nil {
		return err
	}
	if !c.json {
		if _, err := fmt.Fprintln(c.out, untilInterrupted(view, filepath.Join(f.dir, string(id)))); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// untilInterrupted says how to end, and what then becomes of what was written.
func untilInterrupted(v homeward.View, dir string) string {
	const end = "press Ctrl-C to end"
	switch v.Kind {
	case homeward.ViewDurable:
		return end + "; what is written is kept in " + dir + ", and the same command serves it again"
	case homeward.ViewScratch:
		return end + "; what is written is dropped then"
	}
	return end
}

// choosePoint finds the point that --point means; the zero position is the latest.
func choosePoint(points []homeward.Point, which string) (homeward.Position, error) {
	bad := func(kind homeward.Kind, fix, format string, args ...any) (homeward.Position, error) {
		return homeward.Position{}, homeward.Errorf("choose point", kind, "--point", fix, format, args...)
	}
	if which == "latest" || which == "" {
		return homeward.Position{}, nil
	}
	if position, err := homeward.ParsePosition(which); err == nil {
		return position, nil
	}
	if len(points) == 0 {
		return bad(homeward.NotFound, "choose another item", "the item has no points")
	}
	at, err := time.Parse(time.RFC3339Nano, which)
	if age, ageErr := time.ParseDuration(which); err != nil && ageErr == nil && age < 0 {
		at, err = points[len(points)-1].At.Add(age), nil
	}
	if err != nil {
		return bad(homeward.Invalid, "give latest, a position, a time such as 2026-01-31T12:00:00Z, or an age such as -30s", "%q", which)
	}
	for i := len(points) - 1; i >= 0; i-- {
		if !points[i].At.After(at) {
			return points[i].Position, nil
		}
	}
	return bad(homeward.NotFound, "choose a later time", "the oldest point is of %s", points[0].At.Format(time.RFC3339))
}
