package lifecycle_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// TestEveryList: whatever list package recovery can leave unfinished, the table has
// an action, without force, that goes on with it or gives it up.
func TestEveryList(t *testing.T) {
	lists := listsOf(t, "../../recovery")
	if len(lists) < 6 {
		t.Fatalf("only found the lists %v", lists)
	}
	for _, list := range lists {
		possible := false
		for _, s := range states {
			for i, leg := range legs {
				for _, at := range []lifecycle.End{ends[i], ends[1-i]} {
					f := favourable(s, at, leg, vault.TestNone)
					f.Unfinished = list
					allowed, _ := lifecycle.Allowed(f)
					possible = possible || s != lifecycle.None && len(allowed) > 0 && s != vault.Migrated
				}
			}
		}
		if !possible {
			t.Errorf("nothing may follow an unfinished %q: see finishing", list)
		}
	}
}

// listName is what recovery calls its lists; a plain op is a word of an error.
var listName = regexp.MustCompile("^op[A-Z]")

// listsOf reads the constants op… of a package: they are its own.
func listsOf(t *testing.T, dir string) (lists []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !listName.MatchString(spec.Names[0].Name) {
				return true
			}
			if value, ok := spec.Values[0].(*ast.BasicLit); ok && value.Kind == token.STRING {
				list, err := strconv.Unquote(value.Value)
				if err != nil {
					t.Fatal(err)
				}
				lists = append(lists, list)
			}
			return true
		})
	}
	return lists
}
