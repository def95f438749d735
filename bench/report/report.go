// Package report shows what was measured: a Markdown document with tables, and
// plots as SVG. It computes nothing that is not in the measure.Result, so a stored
// result can be shown again.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/durable"
)

// folder holds plots and results, beside the document.
const folder = "benchmarks"

// Write makes dir/benchmarks.md, and dir/benchmarks with results.json and the plots.
func Write(dir string, r measure.Result) error {
	plots := filepath.Join(dir, folder)
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	for _, f := range r.Figures {
		for _, p := range f.Plots {
			image, err := svg(f, p)
			if err != nil {
				return fmt.Errorf("figure %s: %w", f.Name, err)
			}
			if err := durable.WriteFile(durable.OS(), filepath.Join(plots, p.Name+".svg"), image, 0o644); err != nil {
				return err
			}
		}
	}
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(durable.OS(), filepath.Join(plots, "results.json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	var doc bytes.Buffer
	if err := markdown(&doc, r, folder); err != nil {
		return err
	}
	return durable.WriteFile(durable.OS(), filepath.Join(dir, folder+".md"), doc.Bytes(), 0o644)
}

// Read reads a results.json.
func Read(path string) (r measure.Result, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("%s is no result of a benchmark: %w", path, err)
	}
	return r, nil
}

// Print writes the document without plots, as a quick run shows it.
func Print(w io.Writer, r measure.Result) error {
	for i := range r.Figures {
		r.Figures[i].Plots = nil
	}
	return markdown(w, r, folder)
}
