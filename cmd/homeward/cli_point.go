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
	return items.completed(r, r.verb("list ITEM", "List an item's recovery points, newest first", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		l, err := v.Points(ctx, homeward.ItemID(args[0]))
		if err != nil {
			return err
		}
		slices.SortStableFunc(l.Points, func(a, b homeward.Point) int { return b.At.Compare(a.At) })
		rows := [][]any{{"POINT", "AT", "KIND", "UNDO", "HELD BY", ""}}
		for _, p := range l.Points {
			note := ""
			if p.Latest {
				note = "latest"
			}
			rows = append(rows, []any{shortPosition(p.Position), when(p.At), p.Mark.Kind, size(p.UndoBytes), strings.Join(p.Pins, ", "), note})
		}
		return r.printEither(l, rows)
	}))
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
	return items.completed(r, cmd)
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
