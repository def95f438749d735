package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

func (c *command) printJSON(v any) error {
	e := json.NewEncoder(c.out)
	return e.Encode(v)
}

// printEither writes v as JSON with --json, else the rows as a table.
func (c *command) printEither(v any, rows [][]any) error {
	if c.json {
		return c.printJSON(v)
	}
	return c.table(rows)
}

// table prints rows in columns, the first of them the heading: with lines on a
// terminal, plain elsewhere.
func (c *command) table(rows [][]any) error {
	if c.tty.out {
		return c.prettyTable(rows)
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			sep := "\t"
			if i == len(row)-1 {
				sep = "\n"
			}
			if _, err := fmt.Fprint(w, cell, sep); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}

// widest is how many characters a column has on a terminal before it wraps.
const widest = 48

func (c *command) prettyTable(rows [][]any) error {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	var columns []table.ColumnConfig
	for i := range rows[0] {
		columns = append(columns, table.ColumnConfig{Number: i + 1, WidthMax: widest, WidthMaxEnforcer: text.WrapSoft})
	}
	t.SetColumnConfigs(columns)
	t.AppendHeader(rows[0])
	for _, row := range rows[1:] {
		t.AppendRow(row)
	}
	_, err := fmt.Fprintln(c.out, t.Render())
	return err
}

// details prints names and values of one thing; those without a value are left out.
func (c *command) details(pairs ...any) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		value := strings.TrimSpace(fmt.Sprint(pairs[i+1]))
		if value == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%v:\t%s\n", pairs[i], value); err != nil {
			return err
		}
	}
	return w.Flush()
}

// section prints a table below a title, if it has rows beside its heading.
func (c *command) section(title string, rows [][]any) error {
	if len(rows) < 2 {
		return nil
	}
	if _, err := fmt.Fprintf(c.out, "\n%s\n", title); err != nil {
		return err
	}
	return c.table(rows)
}
