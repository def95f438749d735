package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

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
	return c.plainTable(rows, &columns{})
}

// columns are widths, in characters. They grow with what is printed, and what comes
// later stays below what came before.
type columns []int

func (w *columns) grow(rows [][]any) {
	for _, row := range rows {
		for i, cell := range row {
			if i == len(*w) {
				*w = append(*w, 0)
			}
			(*w)[i] = max((*w)[i], utf8.RuneCountInString(fmt.Sprint(cell)))
		}
	}
}

func (c *command) plainTable(rows [][]any, w *columns) error {
	w.grow(rows)
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&b, "%-*s  ", (*w)[i], fmt.Sprint(cell))
		}
		if _, err := fmt.Fprintln(c.out, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// widest is how many characters a column has on a terminal before it wraps; fewer
// where the terminal is narrow, but as many as its longest word, which may be an id.
const widest = 48

// fitted are the widths of columns in a terminal of so many characters; 0: not known.
func fitted(rows [][]any, terminal int) columns {
	var w, words columns
	w.grow(rows)
	for _, row := range rows {
		for i, cell := range row {
			for _, word := range append(strings.Fields(fmt.Sprint(cell)), "") {
				if i == len(words) {
					words = append(words, 0)
				}
				words[i] = max(words[i], utf8.RuneCountInString(word))
			}
		}
	}
	over := 1 - terminal // the lines between the columns are counted, too
	for i := range w {
		w[i] = min(w[i], widest)
		over += w[i] + 3
	}
	for ; terminal > 0 && over > 0; over-- {
		most := -1
		for i := range w {
			if w[i] > words[i] && (most < 0 || w[i] > w[most]) {
				most = i
			}
		}
		if most < 0 {
			break
		}
		w[most]--
	}
	return w
}

func (c *command) prettyTable(rows [][]any) error {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	var configs []table.ColumnConfig
	for i, w := range fitted(rows, c.width()) {
		configs = append(configs, table.ColumnConfig{Number: i + 1, WidthMax: w, WidthMaxEnforcer: text.WrapSoft})
	}
	t.SetColumnConfigs(configs)
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
