package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// bar shows how far long work is, on a terminal only: scripts get nothing but
// the result.
type bar struct {
	w     io.Writer // nil = not a terminal
	drawn time.Time
	width int // of what stands there now
}

const (
	barWidth = 24
	barEvery = 100 * time.Millisecond
)

func newBar() *bar {
	if isTerminal(os.Stderr) {
		return &bar{w: os.Stderr}
	}
	return &bar{}
}

// show draws the state of the work; total 0 = not known. count says what done
// and total are, like "3 of 7".
func (b *bar) show(what string, done, total int64, count string) {
	if b.w == nil || time.Since(b.drawn) < barEvery && done != total {
		return
	}
	b.drawn = time.Now()
	line := what
	if total > 0 {
		full := int(min(done, total) * barWidth / total)
		line += " [" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "]"
	}
	if count != "" {
		line += " " + count
	}
	b.draw(line)
}

func (b *bar) draw(line string) {
	width := utf8.RuneCountInString(line)
	fmt.Fprintf(b.w, "\r%s%s", line, strings.Repeat(" ", max(0, b.width-width)))
	b.width = width
}

// clear removes what was drawn.
func (b *bar) clear() {
	if b.w != nil && b.width > 0 {
		b.draw("")
		fmt.Fprint(b.w, "\r")
		b.width = 0
	}
}
