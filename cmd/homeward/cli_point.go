package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

func pointCommands(r *remote) *cobra.Command {
	return group("point", "Recovery points", pointList(r),
		pointPin(r, "pin", "Hold a point against thinning", "held by", vault.Vault.Pin),
		pointPin(r, "unpin", "Let a held point go", "no longer held by", vault.Vault.Unpin))
}

func pointList(r *remote) *cobra.Command {
	var watch bool
	cmd := r.verb("list ITEM", "List an item's recovery points, newest first", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		points := pointsOf(homeward.ItemID(args[0]))
		if watch {
			return points.watch(ctx, r, v, vault.Query{})
		}
		all, err := points.some(ctx, v, vault.Query{}, 0)
		if err != nil {
			return err
		}
		rows, _ := points.rows(all)
		return r.printEither(all, rows)
	})
	cmd.Flags().BoolVar(&watch, "watch", false, "go on and show every change, until Ctrl-C")
	return items.completed(r, cmd)
}

// pointsOf are the points of an item, newest first.
func pointsOf(item homeward.ItemID) resource[homeward.Point] {
	return resource[homeward.Point]{
		noun: "point", events: []string{"item"},
		list: func(v vault.Vault, ctx context.Context, _ vault.Query) (vault.Page[homeward.Point], error) {
			l, err := v.Points(ctx, item)
			points := slices.Clone(l.Points)
			slices.SortStableFunc(points, func(a, b homeward.Point) int { return b.At.Compare(a.At) })
			return vault.Page[homeward.Point]{Entries: points}, err
		},
		key:     func(p homeward.Point) string { return shortPosition(p.Position) },
		heading: []any{"POINT", "AT", "KIND", "UNDO", "HELD BY", "NOTE"},
		row: func(p homeward.Point) []any {
			return []any{shortPosition(p.Position), when(p.At), p.Mark.Kind, size(p.UndoBytes), strings.Join(p.Pins, ", "), pointNote(p)}
		},
	}
}

// pointNote says by which other name a point may be chosen.
func pointNote(p homeward.Point) string {
	var names []string
	if p.Latest {
		names = append(names, vault.Latest)
	}
	if slices.Contains(p.Pins, "branch:"+vault.LostWrites) && p.Mark.Kind.Bootable() {
		names = append(names, vault.LostWrites)
	}
	return strings.Join(names, ", ")
}

// pointFlag lets the shell complete a flag with the points of the item before it.
func pointFlag(r *remote, cmd *cobra.Command, name string) {
	err := cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		kinds := []string{vault.Latest, vault.LatestApp, vault.LostWrites}
		if len(args) > 0 {
			kinds = append(kinds, pointsOf(homeward.ItemID(args[0])).keys(cmd.Context(), r)...)
		}
		return kinds, cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // a flag that the command does not have
	}
}

func pointPin(r *remote, use, short, did string, do func(vault.Vault, context.Context, homeward.PinRequest) error) *cobra.Command {
	var name string
	cmd := r.verb(use+" ITEM POINT --name NAME", short, 2, func(ctx context.Context, v vault.Vault, args []string) error {
		if err := required("--name", name, "who holds it, such as audit"); err != nil {
			return err
		}
		item := homeward.ItemID(args[0])
		p, err := findPoint(ctx, v, item, args[1])
		if err != nil {
			return err
		}
		req := homeward.PinRequest{Item: item, Point: p, Name: pinName(name)}
		if err := do(v, ctx, req); err != nil {
			return err
		}
		return r.print(req, "point %s of %s is %s %s", shortPosition(p), item, did, req.Name)
	})
	cmd.Flags().StringVar(&name, "name", "", "`who` holds it")
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return pointsOf(homeward.ItemID(args[0])).keys(cmd.Context(), r), cobra.ShellCompDirectiveNoFileComp
		}
		return items.complete(r)(cmd, args, typed)
	}
	return cmd
}

// pinName makes "audit" the hold that it is; a name as listed stays.
func pinName(s string) string {
	if strings.Contains(s, ":") {
		return s
	}
	return "hold:" + s
}

// findPoint takes a whole position, "latest", or the beginning that the list shows.
func findPoint(ctx context.Context, v vault.Vault, item homeward.ItemID, s string) (homeward.Position, error) {
	const op = "find point"
	if p, err := homeward.ParsePosition(s); err == nil {
		return p, nil
	}
	l, err := v.Points(ctx, item)
	if err != nil {
		return homeward.Position{}, err
	}
	var found []homeward.Position
	for _, p := range l.Points {
		if s == vault.Latest && p.Latest || len(s) >= 4 && strings.HasPrefix(p.Position.Cut.String(), s) {
			found = append(found, p.Position)
		}
	}
	remedy := "copy one from 'homeward point list " + string(item) + "'"
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return homeward.Position{}, homeward.Errorf(op, homeward.NotFound, s, remedy, "%s has no such point", item)
	}
	return homeward.Position{}, homeward.Errorf(op, homeward.Invalid, s, "give more of it", "%d points begin so", len(found))
}
