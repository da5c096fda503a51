package gateway

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/models"
)

// writeWithin bounds how long one event may wait for a reader that does not read.
const writeWithin = 30 * time.Second

// sse writes a completion as server-sent events the way OpenAI does: a chunk
// that names the role, one for each piece of text, one with the reason it ended,
// one with the usage if it was asked for, and "[DONE]". A failure in between is
// an event with an error, and nothing after it.
type sse struct {
	w         http.ResponseWriter
	reply     chatReply // what all chunks share
	withUsage bool
	begun     bool
}

// chunk writes one piece, and with the last all that follows it.
func (s *sse) chunk(c models.Chunk, b bill) error {
	if !s.begun {
		if err := s.begin(); err != nil {
			return err
		}
	}
	if c.Text != "" {
		if err := s.choice(chatDelta{Content: &c.Text}, nil); err != nil {
			return err
		}
	}
	if !c.Done {
		return nil
	}
	if err := s.choice(chatDelta{}, &c.Reason); err != nil {
		return err
	}
	if s.withUsage {
		reply := s.reply
		reply.Choices, reply.Usage = []chatChoice{}, b.usage()
		if err := s.event(reply); err != nil {
			return err
		}
	}
	return s.write("[DONE]")
}

func (s *sse) begin() error {
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
	s.begun = true
	s.reply.Object = "chat.completion.chunk"
	empty := ""
	return s.choice(chatDelta{Role: "assistant", Content: &empty}, nil)
}

func (s *sse) choice(d chatDelta, finish *string) error {
	reply := s.reply
	reply.Choices = []chatChoice{{Delta: &d, Finish: finish}}
	return s.event(reply)
}

// end reports how the call ended: before the first event as an ordinary error,
// after it as an error event.
func (s *sse) end(err error) error {
	if err == nil || !s.begun {
		return err
	}
	_, e := explain(err)
	_ = s.event(errorBody{e}) // a caller that has left does not read it
	return nil
}

func (s *sse) event(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.write(string(data))
}

func (s *sse) write(data string) error {
	control := http.NewResponseController(s.w)
	_ = control.SetWriteDeadline(time.Now().Add(writeWithin)) // not every writer has one
	if _, err := s.w.Write([]byte("data: " + data + "\n\n")); err != nil {
		return err
	}
	return control.Flush()
}
