package local

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// Follow reads the lines of a console file from an offset on, as they come, until
// each says stop or ctx ends. It answers the offset after the last whole line, to
// go on from.
func Follow(ctx context.Context, console string, from int64, each func(line string) (stop bool)) (int64, error) {
	f, err := os.Open(console)
	for errors.Is(err, os.ErrNotExist) {
		if err = pause(ctx); err != nil {
			return from, err
		}
		f, err = os.Open(console)
	}
	if err != nil {
		return from, err
	}
	defer func() { _ = f.Close() }() // read only
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return from, err
	}
	r := bufio.NewReader(f)
	var part string
	for {
		s, err := r.ReadString('\n')
		part += s
		switch {
		case err == nil:
			from += int64(len(part))
			if each(part[:len(part)-1]) {
				return from, nil
			}
			part = ""
		case !errors.Is(err, io.EOF):
			return from, err
		default:
			if err := pause(ctx); err != nil {
				return from, err
			}
		}
	}
}

// pause waits a moment: a growing file tells nobody.
func pause(ctx context.Context) error {
	t := time.NewTimer(2 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
