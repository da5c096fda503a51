package access

import (
	"bufio"
	"io"
	"iter"
	"strings"
)

// event is one server-sent event.
type event struct {
	kind string
	data []byte
}

// events yields the events of a stream until it ends.
func events(r io.Reader) iter.Seq[event] {
	return func(yield func(event) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 4<<20)
		var ev event
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				ev.kind = value
			case "data":
				ev.data = append(ev.data, value...)
			case "":
				if ev.kind+string(ev.data) != "" && !yield(ev) {
					return
				}
				ev = event{}
			}
		}
	}
}
