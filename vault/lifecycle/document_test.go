package lifecycle_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

var update = flag.Bool("update", false, "write docs/lifecycle.md anew")

const document = "../../docs/lifecycle.md"

// TestDocument keeps docs/lifecycle.md what the table says.
func TestDocument(t *testing.T) {
	want := describe()
	if *update {
		if err := durable.WriteFile(durable.OS(), document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(document)
	if err != nil {
		t.Fatalf("%v: run go generate ./vault/lifecycle", err)
	}
	if string(got) != want {
		t.Error("docs/lifecycle.md is stale: run go generate ./vault/lifecycle")
	}
}

func describe() string {
	var b strings.Builder
	b.WriteString(`# The lifecycle of a replicated item

Generated from package ` + "`vault/lifecycle`" + ` by ` + "`go generate ./vault/lifecycle`" + `; do not edit.

Each row is where an item can stand while nothing runs on it and all facts are
favourable: sites connected, recovery points known, replication not paused. An
arrow leads to the state after success. What is not listed is refused, with the
reason below.

| state | runs at | leg | what is possible |
| --- | --- | --- | --- |
`)
	var refusals strings.Builder
	told := map[string]bool{}
	for _, s := range states {
		for _, at := range ends {
			for _, leg := range legs {
				f := favourable(s, at, leg, vault.TestNone)
				allowed, refused := lifecycle.Allowed(f)
				if contradicted(f, allowed) || s == lifecycle.None && (at != ends[0] || leg != legs[0]) {
					continue
				}
				row(&b, f, allowed, "")
				where := fmt.Sprintf("%s at its %s site, %s", s, at, leg)
				if s == lifecycle.None {
					where = "not protected"
				}
				var lines strings.Builder
				for _, no := range refused {
					fmt.Fprintf(&lines, "| %s | %s | %s | %s |\n", no.Action, no.Why, no.Remedy, no.Rule)
				}
				if told[lines.String()] { // the site and the leg make no difference
					continue
				}
				told[lines.String()] = true
				fmt.Fprintf(&refusals, "\n### %s\n\n| action | why not | what would make it possible | rule |\n| --- | --- | --- | --- |\n%s", where, lines.String())
			}
		}
	}
	open := favourable(vault.Protected, lifecycle.AtOriginal, lifecycle.Forward, vault.TestOpen)
	allowed, _ := lifecycle.Allowed(open)
	row(&b, open, allowed, ", test failover open")
	for i, leg := range legs {
		older := favourable(vault.Synchronizing, ends[i], leg, vault.TestNone)
		older.Unfinished, older.Older = "reprotect", true
		allowed, _ := lifecycle.Allowed(older)
		row(&b, older, allowed, " after a reprotect, a point from before is asked for")
	}
	b.WriteString("\nWherever the nodes report another state than is recorded, `adopt` is possible as well:\nit leads to the state found, whichever that is.\n")
	b.WriteString("\nA job that fails or is cancelled leaves the state as the last task that ended left\nit (in brackets below); a list of calls that it left unfinished is ended, or given\nup, before anything else is possible. `disable` with force gives up anything;\namid a synchronization after a reprotect it must be told to let the branch go, too.\n")
	plans(&b)
	b.WriteString("\n## Why not\n" + refusals.String())
	return b.String()
}

// contradicted rows leave nothing but disable, and say so of everything else.
func contradicted(f lifecycle.Facts, allowed []vault.Action) bool {
	_, no := lifecycle.Decide(f, vault.Commit)
	return len(allowed) == 1 && strings.Contains(no.Why, "and yet")
}

func row(b *strings.Builder, f lifecycle.Facts, allowed []vault.Action, more string) {
	var list []string
	for _, a := range allowed {
		t, _ := lifecycle.Decide(f, a)
		next := string(t.Next)
		if t.Next == lifecycle.None {
			next = "not protected"
		}
		list = append(list, fmt.Sprintf("%s → %s", a, next))
	}
	if f.State == lifecycle.None {
		f.State, f.At, f.Leg = "not protected", "–", "–"
	}
	fmt.Fprintf(b, "| %s%s | %s | %s | %s |\n", f.State, more, f.At, f.Leg, strings.Join(list, "<br>"))
}

// plans lists the tasks of each action where it is possible, once per variant.
func plans(b *strings.Builder) {
	b.WriteString("\n## The jobs\n\nTasks by name and title; in brackets the state from their end on.\n")
	told := map[string]bool{}
	tell := func(what string, t lifecycle.Transition) {
		var list strings.Builder
		for i, task := range t.Tasks {
			then := ""
			if task.Then != lifecycle.None {
				then = fmt.Sprintf(" (%s)", task.Then)
			}
			fmt.Fprintf(&list, "%d. `%s` %s%s\n", i+1, task.Name, task.Title, then)
		}
		if t.Scenario == "" || told[t.Scenario+list.String()] {
			return
		}
		told[t.Scenario+list.String()] = true
		fmt.Fprintf(b, "\n### %s: `%s` \"%s\"\n\n%s", what, t.Scenario, t.Title, list.String())
	}
	for _, a := range vault.Actions() {
		for _, s := range states {
			for i, leg := range legs {
				at := ends[i]
				if s == vault.FailedOver || s == vault.Committed {
					at = ends[1-i]
				}
				f := favourable(s, at, leg, vault.TestNone)
				if a == vault.CleanUpTest {
					f.Test = vault.TestOpen
				}
				if a == vault.Adopt {
					f.Foreign = lifecycle.Yes
				}
				if t, no := lifecycle.Decide(f, a); no == nil {
					what := string(a)
					if s != lifecycle.None {
						what += fmt.Sprintf(" of a %s item, %s", s, leg)
					}
					tell(what, t)
				}
			}
		}
	}
	f := favourable(vault.Synchronizing, lifecycle.AtOriginal, lifecycle.Forward, vault.TestNone)
	f.Doomed = true
	tell("the child job of enable and reprotect", lifecycle.FirstPoint(f))
}
