package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// A failed test's words come last, though it kept a log of hundreds of lines.
func TestTheSummaryNamesWhatFailed(t *testing.T) {
	var in strings.Builder
	say := func(output string) {
		fmt.Fprintf(&in, `{"Action":"output","Package":"p","Test":"T","Output":%q}`+"\n", output)
	}
	say("    town_test.go:12: the fact is not cited\n")
	for range 1000 {
		say("        a program's log\n")
	}
	say("panic: nil\n")
	in.WriteString(`{"Action":"fail","Package":"p","Test":"T"}` + "\n")
	r := read(bufio.NewReader(strings.NewReader(in.String())))
	out := printed(t, r.summary)
	want := "\nfailed p T\n    town_test.go:12: the fact is not cited\n    panic: nil\n"
	if out != want {
		t.Errorf("%q, want %q", out, want)
	}
}

func printed(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	f()
	os.Stdout = stdout
	w.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
