package durable

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/homeward-dr/homeward"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteJSON writes v as a record that cannot be misread: see the package
// document for its envelope. Mode 0600: records may name machines.
func WriteJSON(fsys FS, path string, v any) error {
	doc, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return homeward.Errorf("write record", homeward.Internal, path, "", "%w", err)
	}
	return WriteFile(fsys, path, sealRecord(append(doc, '\n')), 0o600)
}

// ReadJSON reads what WriteJSON wrote into v. Errors: NotFound; Corrupt when the
// file is torn or flipped anywhere, when its version is unknown, and when the
// document has fields that v has not.
func ReadJSON(fsys FS, path string, v any) error {
	data, err := ReadFile(fsys, path)
	if err != nil {
		return err
	}
	doc, err := openRecord(data)
	if err == nil {
		err = decodeStrictly(doc, v)
	}
	if err != nil {
		return homeward.Errorf("read record", homeward.Corrupt, path,
			"restore it from a copy; do not edit it by hand", "%w", err)
	}
	return nil
}

func recordHeader(doc []byte) string {
	return fmt.Sprintf("homeward-record 1 %d %08x\n", len(doc), crc32.Checksum(doc, castagnoli))
}

func sealRecord(doc []byte) []byte { return append([]byte(recordHeader(doc)), doc...) }

func openRecord(data []byte) ([]byte, error) {
	header, doc, found := bytes.Cut(data, []byte("\n"))
	if !found || !bytes.HasPrefix(header, []byte("homeward-record ")) {
		return nil, fmt.Errorf("not a record")
	}
	if !bytes.HasPrefix(header, []byte("homeward-record 1 ")) {
		return nil, fmt.Errorf("a record of a version this build does not know: %.40q", header)
	}
	if string(header)+"\n" != recordHeader(doc) {
		return nil, fmt.Errorf("length or checksum of the record is wrong")
	}
	return doc, nil
}

func decodeStrictly(doc []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows the document")
	}
	return nil
}
