package main

import (
	"context"
	"encoding/json"
	"iter"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward/vault"
)

// resource is a kind of thing that is listed and shown: what list and show share.
type resource[T any] struct {
	noun    string // "site"
	events  []string
	filters []string // of vault.Query: "site", "item", "state", "role"
	list    func(v vault.Vault, ctx context.Context, q vault.Query) (vault.Page[T], error)
	heading []any
	row     func(T) []any
	key     func(T) string // id, for completion and for telling rows apart
	// For show; the key of T names it.
	get  func(v vault.Vault, ctx context.Context, id string) (T, error)
	show func(*remote, T) error
}

// each is every entry, page by page.
func (d resource[T]) each(ctx context.Context, v vault.Vault, q vault.Query) iter.Seq2[T, error] {
	return everyOne(ctx, v, q, d.list)
}

// everyOne is every entry of a list, page by page.
func everyOne[T any](ctx context.Context, v vault.Vault, q vault.Query, list func(vault.Vault, context.Context, vault.Query) (vault.Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		q.Limit = vault.MaxPage
		for {
			page, err := list(v, ctx, q)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, e := range page.Entries {
				if !yield(e, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.After = page.Next
		}
	}
}

// some are the first entries, at most limit; 0: all.
func (d resource[T]) some(ctx context.Context, v vault.Vault, q vault.Query, limit int) ([]T, error) {
	all := []T{}
	for e, err := range d.each(ctx, v, q) {
		if err != nil {
			return nil, err
		}
		if all = append(all, e); len(all) == limit {
			break
		}
	}
	return all, nil
}

func (d resource[T]) rows(entries []T) (rows [][]any, keys []string) {
	rows = [][]any{d.heading}
	for _, e := range entries {
		rows = append(rows, d.row(e))
		keys = append(keys, d.key(e))
	}
	return rows, keys
}

// listCommand lists, once or whenever something changes.
func (d resource[T]) listCommand(r *remote, short string) *cobra.Command {
	var q vault.Query
	var limit int
	var watch bool
	cmd := r.verb("list", short, 0, func(ctx context.Context, v vault.Vault, _ []string) error {
		if watch {
			return d.watch(ctx, r, v, q)
		}
		entries, err := d.some(ctx, v, q, limit)
		if err != nil {
			return err
		}
		rows, _ := d.rows(entries)
		return r.printEither(entries, rows)
	})
	f := cmd.Flags()
	f.IntVar(&limit, "limit", 0, "at most so many; 0: all")
	if d.events != nil {
		f.BoolVar(&watch, "watch", false, "go on and show every change, until Ctrl-C")
	}
	for _, name := range d.filters {
		into := map[string]*string{"site": &q.Site, "item": &q.Item, "state": &q.State, "role": &q.Role}[name]
		f.StringVar(into, name, "", "only those of this `"+name+"`")
	}
	return cmd
}

func (d resource[T]) watch(ctx context.Context, r *remote, v vault.Vault, q vault.Query) error {
	var shown watched
	return r.follow(ctx, v, d.events, func(ctx context.Context) (bool, error) {
		entries, err := d.some(ctx, v, q, 0)
		if err != nil {
			return false, err
		}
		rows, keys := d.rows(entries)
		switch {
		case r.json:
			return false, d.printChanged(r, entries, &shown)
		case r.tty.out:
			if err := r.clear(); err != nil {
				return false, err
			}
			return false, r.table(rows)
		}
		return false, shown.print(r.command, rows, keys)
	})
}

// printChanged prints each entry that is not as it was, a document a line.
func (d resource[T]) printChanged(r *remote, entries []T, shown *watched) error {
	for _, e := range entries {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if shown.isNew(d.key(e), string(data)) {
			if err := r.printJSON(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// showCommand shows one, once or whenever it changes.
func (d resource[T]) showCommand(r *remote, use, short string) *cobra.Command {
	var watch bool
	cmd := r.verb("show "+use, short, 1, func(ctx context.Context, v vault.Vault, args []string) error {
		if !watch {
			e, err := d.get(v, ctx, args[0])
			if err != nil {
				return err
			}
			return d.print(r, e)
		}
		before := ""
		var shown watched
		return r.follow(ctx, v, d.events, func(ctx context.Context) (bool, error) {
			e, err := d.get(v, ctx, args[0])
			if err != nil {
				return false, err
			}
			data, err := json.Marshal(e)
			if err != nil || string(data) == before {
				return false, err
			}
			before = string(data)
			switch {
			case r.json:
				return false, r.printJSON(e)
			case r.tty.out:
				if err := r.clear(); err != nil {
					return false, err
				}
				return false, d.show(r, e)
			}
			rows, keys := d.rows([]T{e})
			return false, shown.print(r.command, rows, keys)
		})
	})
	cmd.Flags().BoolVar(&watch, "watch", false, "go on and show every change, until Ctrl-C")
	return d.completed(r, cmd)
}

func (d resource[T]) print(r *remote, e T) error {
	if r.json {
		return r.printJSON(e)
	}
	return d.show(r, e)
}

// completed lets the shell complete the first argument from the API.
func (d resource[T]) completed(r *remote, cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = d.complete(r)
	return cmd
}

func (d resource[T]) complete(r *remote) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return d.keys(cmd.Context(), r), cobra.ShellCompDirectiveNoFileComp
	}
}

func (d resource[T]) keys(ctx context.Context, r *remote) []string {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completing)
	defer cancel()
	var keys []string
	err := r.ask(ctx, func(ctx context.Context, v vault.Vault) error {
		page, err := d.list(v, ctx, vault.Query{Limit: vault.MaxPage})
		for _, e := range page.Entries {
			keys = append(keys, d.key(e))
		}
		return err
	})
	if err != nil {
		cobra.CompErrorln(err.Error())
	}
	return keys
}

// oneOf lets the shell complete a flag with words.
func oneOf(cmd *cobra.Command, name string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // a flag that the command does not have
	}
}

// flag lets the shell complete a flag from the API.
func (d resource[T]) flag(r *remote, cmd *cobra.Command, name string) {
	err := cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return d.keys(cmd.Context(), r), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // a flag that the command does not have
	}
}
