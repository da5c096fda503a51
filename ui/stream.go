package ui

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/cloister-os/cloister/store"
)

// Bounds of an event stream. The browser opens a new one when a stream ends, and
// is authenticated anew.
const (
	maxStreams  = 512 // open at once
	streamLife  = 5 * time.Minute
	streamBeat  = 5 * time.Second        // by which a page knows that its node is there
	streamPace  = 150 * time.Millisecond // frames come no closer than this
	streamWrite = 10 * time.Second
)

// frame is one state of a page's region.
type frame struct {
	html templ.Component
	say  string // one sentence for screen readers; "" = nothing new
	last bool   // nothing follows
}

// stream sends frames as events until the last one. Of frames that come faster
// than the pace only the newest is sent.
func (u *pages) stream(w http.ResponseWriter, r *http.Request, frames iter.Seq2[frame, error]) error {
	select {
	case u.streams <- struct{}{}:
		defer func() { <-u.streams }()
	default:
		return store.ErrBusy
	}
	ctx, cancel := context.WithTimeout(r.Context(), streamLife)
	defer cancel()
	newest := make(chan frame, 1)
	failed := make(chan error, 1)
	go func() { failed <- feed(ctx, frames, newest) }()

	// The first frame decides whether this is a stream at all: what is refused is
	// refused before any byte is sent.
	var first frame
	select {
	case first = <-newest:
	case err := <-failed:
		if err != nil {
			return err
		}
		select {
		case first = <-newest:
		default:
			first = frame{last: true}
		}
	case <-ctx.Done():
		return nil
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no")
	out := &events{w: w, control: http.NewResponseController(w)}
	_ = out.control.SetReadDeadline(time.Time{}) // nothing more is read; not every writer has one
	if !out.send(ctx, first) || first.last {
		return nil
	}
	out.follow(ctx, newest, failed)
	return nil
}

// feed keeps only the newest frame in the channel; a last frame is kept.
func feed(ctx context.Context, frames iter.Seq2[frame, error], newest chan frame) error {
	for f, err := range frames {
		if err != nil {
			return err
		}
		select {
		case <-newest:
		default:
		}
		select {
		case newest <- f:
		case <-ctx.Done():
			return ctx.Err()
		}
		if f.last {
			return nil
		}
	}
	return nil
}

// events writes an event stream.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (e *events) follow(ctx context.Context, newest <-chan frame, failed <-chan error) {
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	pace := time.NewTicker(streamPace)
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			if !e.write("event: beat\ndata: 1\n\n") {
				return
			}
		case <-pace.C:
			select {
			case f := <-newest:
				if !e.send(ctx, f) || f.last {
					return
				}
			case <-failed:
				select {
				case f := <-newest: // the source ended just after its last frame
					e.send(ctx, f)
				default:
				}
				return // the browser connects again and sees the error as a page
			default:
			}
		}
	}
}

func (e *events) send(ctx context.Context, f frame) bool {
	var b bytes.Buffer
	if f.html != nil {
		var page bytes.Buffer
		if err := f.html.Render(ctx, &page); err != nil {
			return false
		}
		event(&b, "region", page.String())
	}
	if f.say != "" {
		event(&b, "say", f.say)
	}
	if f.last {
		event(&b, "end", "")
	}
	return e.write(b.String())
}

func (e *events) write(s string) bool {
	_ = e.control.SetWriteDeadline(time.Now().Add(streamWrite)) // not every writer has one
	if _, err := io.WriteString(e.w, s); err != nil {
		return false
	}
	return e.control.Flush() == nil
}

// A carriage return ends a line of an event stream too.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

func event(b *bytes.Buffer, name, data string) {
	fmt.Fprintf(b, "event: %s\n", name)
	for line := range strings.SplitSeq(lineEnds.Replace(data), "\n") {
		fmt.Fprintf(b, "data: %s\n", line)
	}
	b.WriteByte('\n')
}
