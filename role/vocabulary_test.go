package role

import (
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward/durable"
)

var update = flag.Bool("update", false, "write the vocabulary of this protocol anew")

// vocabularyOf are all calls, and all fields of their requests and answers.
func vocabularyOf() string {
	var words []string
	for _, of := range contracts {
		c := of.handler(&recorder{}).(served)
		for m, e := range c.calls {
			call := c.name + "/" + m
			words = append(words, call)
			for sign, t := range map[string]reflect.Type{" > ": e.req, " < ": e.resp} {
				fields(t, "", func(path string) { words = append(words, call+sign+path) })
			}
		}
	}
	slices.Sort(words)
	return strings.Join(slices.Compact(words), "\n") + "\n"
}

// fields tells the paths of a type's fields.
func fields(t reflect.Type, path string, tell func(string)) {
	if itself(t) {
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		fields(t.Elem(), path, tell)
	case reflect.Slice, reflect.Array:
		fields(t.Elem(), path+"[]", tell)
	case reflect.Map:
		tell(path + ".*")
		fields(t.Elem(), path+".*", tell)
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || name == "-" || f.Anonymous && name == "" || len(f.Index) > 1 && name == "" {
				continue
			}
			at := strings.TrimPrefix(path+"."+name, ".")
			tell(at)
			fields(f.Type, at, tell)
		}
	}
}

// itself reports whether a type writes itself, or is no structure.
func itself(t reflect.Type) bool {
	for _, w := range []reflect.Type{reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[json.Marshaler]()} {
		if t.Implements(w) || reflect.PointerTo(t).Implements(w) {
			return true
		}
	}
	return false
}

// What is spoken is written down. When this fails, and the number of the protocol was
// released, the change needs a new number: then the file of the old one stays, and the
// build with the tag previous speaks it.
func TestVocabulary(t *testing.T) {
	path := fmt.Sprintf("protocol/%d.txt", Protocol)
	now := vocabularyOf()
	if *update {
		if err := durable.WriteFile(durable.OS(), path, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != now {
		t.Errorf("%s is not what is spoken: after a release raise Protocol; then 'go test ./role -run Vocabulary -update'", path)
	}
	before, err := os.ReadFile(fmt.Sprintf("protocol/%d.txt", Protocol-1))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Split(strings.TrimSpace(string(before)), "\n") {
		if !strings.Contains(word, " < ") && !strings.Contains("\n"+now, "\n"+word+"\n") {
			t.Errorf("%q is gone: a vault of the version before says it", word)
		}
	}
}
