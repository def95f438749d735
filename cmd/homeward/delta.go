package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
)

func (c *command) delta() *cobra.Command {
	return group("delta", "Look into a delta file",
		&cobra.Command{Use: "inspect FILE", Short: "Print what a delta is about, without reading its content", Args: arguments(1),
			RunE: func(_ *cobra.Command, args []string) error { return c.inspectDelta(args[0]) }},
		&cobra.Command{Use: "verify FILE", Short: "Check every byte of a delta against its checksums", Args: arguments(1),
			RunE: func(_ *cobra.Command, args []string) error { return c.verifyDelta(args[0]) }},
	)
}

func (c *command) inspectDelta(path string) error {
	f, err := openRegular("inspect delta", path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return homeward.Errorf("inspect delta", homeward.IO, path, "", "%w", err)
	}
	return homeward.Wrap(delta.Inspect(c.out, f, info.Size(), c.json), "inspect delta", path)
}

type deltaVerified struct {
	Position homeward.Position `json:"position"`
	Trailer  delta.Trailer     `json:"trailer"`
}

func (c *command) verifyDelta(path string) error {
	f, err := openRegular("verify delta", path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	h, t, err := delta.Verify(f)
	if err != nil {
		return homeward.Wrap(err, "verify delta", path)
	}
	return c.print(deltaVerified{h.Position(t), t}, "%s: whole, %d blocks, leads to %s", path, t.Blocks, h.Position(t))
}

// openRegular opens a file that a command was given.
func openRegular(op, path string) (*os.File, error) {
	f, err := os.Open(path)
	switch {
	case os.IsNotExist(err):
		return nil, homeward.Errorf(op, homeward.NotFound, path, "check the path", "%w", err)
	case os.IsPermission(err):
		return nil, homeward.Errorf(op, homeward.Forbidden, path, "run as a user who may read it", "%w", err)
	case err != nil:
		return nil, homeward.Errorf(op, homeward.IO, path, "check the path and the medium", "%w", err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, homeward.Errorf(op, homeward.Invalid, path, "give a file", "is a directory")
	}
	return f, nil
}
