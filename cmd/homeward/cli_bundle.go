package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/vault"
)

// bundleLimit is the most entries of each list that go into a bundle.
const bundleLimit = 5000

func bundleCommand(r *remote) *cobra.Command {
	var out string
	cmd := r.verb("bundle --out FILE", "Collect a support bundle, without secrets", 0, func(ctx context.Context, v vault.Vault, _ []string) error {
		if out == "" {
			out = "homeward-bundle-" + time.Now().UTC().Format("20060102-150405") + ".tar.gz"
		}
		to, err := r.connection()
		if err != nil {
			return err
		}
		f, err := durable.Create(durable.OS(), out, 0o600)
		if err != nil {
			return err
		}
		b := &bundle{clean: redactor{literal: to.Token}, now: time.Now().UTC()}
		if err := b.write(ctx, v, f); err != nil {
			return discard(f, homeward.Wrap(err, "write bundle", out))
		}
		if err := f.Commit(); err != nil {
			return err
		}
		missing := ""
		if n := len(b.missing); n > 0 {
			missing = fmt.Sprintf("; %d could not be read and say why", n)
		}
		return r.print(map[string]any{"bundle": out, "files": b.files, "missing": b.missing},
			"%s holds %d files%s. Look through it before you give it away", out, len(b.files), missing)
	})
	cmd.Flags().StringVar(&out, "out", "", "`file` to write, .tar.gz")
	return cmd
}

// discard gives a file up and keeps the first error.
func discard(f *durable.NewFile, err error) error {
	_ = f.Abort() // what was wrong before is told
	return err
}

// bundle writes what it is told as redacted files.
type bundle struct {
	tar     *tar.Writer
	clean   redactor
	now     time.Time
	files   []string
	missing []string
}

func (b *bundle) write(ctx context.Context, v vault.Vault, w io.Writer) error {
	zip := gzip.NewWriter(w)
	b.tar = tar.NewWriter(zip)
	if err := b.add("version.json", buildVersion(), nil); err != nil {
		return err
	}
	status, err := v.Status(ctx)
	if err := b.add("status.json", status, err); err != nil {
		return err
	}
	for _, part := range []func() error{
		func() error { return addAll(b, "sites", sites.each(ctx, v, vault.Query{})) },
		func() error { return addAll(b, "machines", machines.each(ctx, v, vault.Query{})) },
		func() error { return addAll(b, "nodes", nodes.each(ctx, v, vault.Query{})) },
		func() error { return addAll(b, "enrolments", enrolments.each(ctx, v, vault.Query{})) },
		func() error { return addAll(b, "policies", policies.each(ctx, v, vault.Query{})) },
		func() error { return addAll(b, "items", items.each(ctx, v, vault.Query{})) },
		func() error { return addAll(b, "jobs", jobs.each(ctx, v, vault.Query{})) },
		func() error { return addAll(b, "artefacts", artefacts.each(ctx, v, vault.Query{})) },
		func() error { return addAll(b, "alerts", alerts.each(ctx, v, vault.Query{})) },
		func() error { return addAll(b, "audit", auditLog.each(ctx, v, vault.Query{})) },
		func() error { return b.addOfItems(ctx, v) },
	} {
		if err := part(); err != nil {
			return err
		}
	}
	if err := b.tar.Close(); err != nil {
		return err
	}
	return zip.Close()
}

func (b *bundle) addOfItems(ctx context.Context, v vault.Vault) error {
	for i, err := range items.each(ctx, v, vault.Query{}) {
		if err != nil {
			return nil // items.json.error.txt says it
		}
		ready, err := v.Readiness(ctx, i.ID)
		if err := b.add("items/"+string(i.ID)+"/readiness.json", ready, err); err != nil {
			return err
		}
		points, err := v.Points(ctx, i.ID)
		if err := b.add("items/"+string(i.ID)+"/points.json", points, err); err != nil {
			return err
		}
	}
	return nil
}

// addAll adds a list as one file.
func addAll[T any](b *bundle, name string, entries iter.Seq2[T, error]) error {
	all := []T{}
	for e, err := range entries {
		if err != nil {
			return b.add(name+".json", nil, err)
		}
		if all = append(all, e); len(all) == bundleLimit {
			break
		}
	}
	return b.add(name+".json", all, nil)
}

// add writes v; if it could not be asked for, a file that says why.
func (b *bundle) add(name string, v any, err error) error {
	if err != nil {
		b.missing = append(b.missing, name)
		return b.file(name+".error.txt", []byte(b.clean.text(err.Error())+"\n"))
	}
	data, err := b.clean.document(v)
	if err != nil {
		return err
	}
	return b.file(name, data)
}

func (b *bundle) file(name string, data []byte) error {
	h := &tar.Header{Name: "homeward-bundle/" + name, Mode: 0o600, Size: int64(len(data)), ModTime: b.now, Typeflag: tar.TypeReg}
	if err := b.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err := b.tar.Write(data)
	b.files = append(b.files, name)
	return err
}

// document is v as indented JSON without secrets.
func (c redactor) document(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var plain any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // counts of bytes stay exact
	if err := d.Decode(&plain); err != nil {
		return nil, err
	}
	data, err = json.MarshalIndent(c.value(plain), "", "  ")
	return append(data, '\n'), err
}
