package main

import (
	"bytes"
	"strings"
	"testing"
)

// A column is never made narrower than a word, and ids are words.
func TestCLI_TablesFitTheTerminal(t *testing.T) {
	rows := [][]any{{"JOB", "WHY"}, {strings.Repeat("7", 32), strings.Repeat("because ", 20)}}
	for terminal, want := range map[int]columns{0: {32, widest}, 200: {32, widest}, 60: {32, 21}, 10: {32, 7}} {
		if got := fitted(rows, terminal); got[0] != want[0] || got[1] != want[1] {
			t.Errorf("%d characters: %v, want %v", terminal, got, want)
		}
	}
}

// What is watched in a pipe stays below its heading, and is not said twice.
func TestCLI_WatchKeepsItsColumns(t *testing.T) {
	var b bytes.Buffer
	var w watched
	c := &command{streams: streams{out: &b}}
	for _, state := range []string{"synchronizing", "protected", "protected"} {
		if err := w.print(c, [][]any{{"ITEM", "STATE", "RPO", "JOB"}, {"web01", state, "1s", ""}}, []string{"web01"}); err != nil {
			t.Fatal(err)
		}
	}
	const want = "ITEM   STATE          RPO  JOB\nweb01  synchronizing  1s\nweb01  protected      1s\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
