package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

func drain(r io.Reader, l Limits) error {
	d, err := NewDecoder(r, l)
	for err == nil {
		_, err = d.Next()
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func TestLimits(t *testing.T) {
	b := encode(t, header(1, 1<<20, 512), EncoderOptions{}, crash, change{data: bytes.Repeat([]byte{1}, 64*block.Size)})
	size := int64(len(b))
	if err := drain(bytes.NewReader(b), Limits{MaxStored: size, MaxDisks: 2}); err != nil {
		t.Fatal(err)
	}
	for _, l := range []Limits{{MaxStored: size - 1}, {MaxStored: 1000}, {MaxStored: 1}, {MaxDisks: 1}, {MaxManifest: 10}} {
		if err := drain(bytes.NewReader(b), l); homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("%+v: %v", l, err)
		}
	}
}

// A refused delta is refused before more than MaxStored bytes were read, read-ahead aside.
func TestLimitReadsNoFurther(t *testing.T) {
	b := encode(t, header(1, 1<<30), EncoderOptions{}, crash, change{data: bytes.Repeat([]byte{1}, 4<<20)})
	r := bytes.NewReader(b)
	if err := drain(r, Limits{MaxStored: 300 << 10}); homeward.KindOf(err) != homeward.Invalid {
		t.Fatal(err)
	}
	if read := len(b) - r.Len(); read > 300<<10+16<<10 {
		t.Fatalf("%d bytes read", read)
	}
}

// bomb is a delta whose only frame claims 4 KiB and expands to more.
func bomb(t *testing.T, codec Codec, stored []byte) []byte {
	h := header(1, 1<<20)
	raw := must(encodeHeader(h))(t)
	var b bytes.Buffer
	s := newSink(&b, h, raw)
	if err := s.frame(&Frame{Codec: codec, Runs: []block.Run{{Start: 0, Count: 1}}}, stored); err != nil {
		t.Fatal(err)
	}
	must(s.close(crash))(t)
	return b.Bytes()
}

func TestBombsAreRefused(t *testing.T) {
	zeros := make([]byte, 64<<20)
	z := must(zstd.NewWriter(nil))(t)
	var streamed bytes.Buffer // states no content size
	zs := must(zstd.NewWriter(&streamed, zstd.WithEncoderConcurrency(1)))(t)
	if _, err := zs.Write(zeros); err != nil {
		t.Fatal(err)
	}
	if err := zs.Close(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"s2":             bomb(t, S2, s2.EncodeBest(nil, zeros[:60<<10])),
		"s2, length":     bomb(t, S2, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0}),
		"zstd":           bomb(t, Zstd, z.EncodeAll(zeros[:1<<20], nil)),
		"zstd, streamed": bomb(t, Zstd, streamed.Bytes()[:min(4096, streamed.Len())]),
		"zstd, short":    bomb(t, Zstd, z.EncodeAll([]byte{1}, nil)),
	} {
		for way, read := range readers {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if err := read(b); homeward.KindOf(err) != homeward.Corrupt {
				t.Fatalf("%s, %s: %v", name, way, err)
			}
			runtime.ReadMemStats(&after)
			allocated := after.TotalAlloc - before.TotalAlloc
			if allocated > 8<<20 {
				t.Fatalf("%s, %s: %d bytes allocated", name, way, allocated)
			}
		}
	}
}

// Lengths in the header and in frame heads are held against limits before they
// are used.
func TestHostileLengths(t *testing.T) {
	le := binary.LittleEndian
	b := encode(t, header(1, 1<<20), EncoderOptions{}, crash, change{data: bytes.Repeat([]byte{1}, block.Size)})
	at := bytes.Index(b, []byte{frameTag, 0, 0, 0})
	for name, spoil := range map[string]func(b []byte){
		"header":  func(b []byte) { le.PutUint32(b[12:], 1<<32-1) },
		"runs":    func(b []byte) { le.PutUint32(b[at+20:], 1<<32-1) },
		"no runs": func(b []byte) { le.PutUint32(b[at+20:], 0) },
		"stored":  func(b []byte) { le.PutUint32(b[at+4:], 1<<31) },
		"plain":   func(b []byte) { le.PutUint32(b[at+16:], 1<<31) },
		"count":   func(b []byte) { le.PutUint32(b[at+64:], 1<<32-1) },
		"start":   func(b []byte) { le.PutUint64(b[at+56:], 1<<64-1) },
		"disk":    func(b []byte) { le.PutUint16(b[at+12:], 1) },
		"codec":   func(b []byte) { b[at+1] = 9 },
		"flag":    func(b []byte) { b[at+15] = 1 },
	} {
		c := bytes.Clone(b)
		spoil(c)
		le.PutUint32(c[at+68:], crc(c[at:at+68])) // the head's CRC is right
		for way, read := range readers {
			if err := read(c); err == nil {
				t.Fatalf("%s, %s: no error", name, way)
			}
		}
	}
}

// An error of the medium is not a corrupt delta.
func TestReadErrorsKeepTheirKind(t *testing.T) {
	b := encode(t, header(1, 1<<20), EncoderOptions{}, crash, change{data: bytes.Repeat([]byte{1}, 25*block.Size)})
	away := homeward.Errorf("get", homeward.Unavailable, "peer", "", "gone")
	for _, cause := range []error{away, errors.New("bad sector")} {
		r := io.MultiReader(bytes.NewReader(b[:50<<10]), iotest.ErrReader(cause))
		want := homeward.IO
		if cause == away {
			want = homeward.Unavailable
		}
		if err := drain(r, Limits{}); homeward.KindOf(err) != want || !errors.Is(err, cause) {
			t.Fatalf("%v: %v", cause, err)
		}
	}
}
