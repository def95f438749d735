package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
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

// table prints rows in columns, the first of them the heading.
func (c *command) table(rows [][]any) error {
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
