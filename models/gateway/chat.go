package gateway

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/models"
)

// chatRequest is what we read of a chat completion request.
type chatRequest struct {
	Model          string          `json:"model"`
	Messages       []chatMessage   `json:"messages"`
	MaxTokens      *int            `json:"max_tokens"`
	MaxCompletion  *int            `json:"max_completion_tokens"`
	Temperature    *float64        `json:"temperature"`
	TopP           *float64        `json:"top_p"`
	Frequency      *float64        `json:"frequency_penalty"`
	Presence       *float64        `json:"presence_penalty"`
	Seed           *int            `json:"seed"`
	Stop           stops           `json:"stop"`
	Stream         bool            `json:"stream"`
	StreamOptions  *streamOptions  `json:"stream_options"`
	ResponseFormat *responseFormat `json:"response_format"`
	N              *int            `json:"n"`
	Logprobs       bool            `json:"logprobs"`
	Tools          []any           `json:"tools"`
	Functions      []any           `json:"functions"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type responseFormat struct {
	Type string `json:"type"`
}

// chatMessage is one message; its content may be a text or a list of text parts.
type chatMessage struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

type content string

// UnmarshalJSON reads a text, or joins a list of text parts.
func (c *content) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte("[")) {
		var parts []struct {
			Type string `json:"type"`
			Text string `json:"text"`
		}
		if err := json.Unmarshal(data, &parts); err != nil {
			return bad("messages", "A message's content is a text or a list of text parts.")
		}
		for _, p := range parts {
			if p.Type != "text" {
				return bad("messages", "The model reads text only: a part of type %q cannot be sent.", p.Type)
			}
			*c += content(p.Text)
		}
		return nil
	}
	var text *string
	if err := json.Unmarshal(data, &text); err != nil {
		return bad("messages", "A message's content is a text or a list of text parts.")
	}
	if text != nil {
		*c = content(*text)
	}
	return nil
}

// stops is one text or a list of texts.
type stops []string

// UnmarshalJSON reads either form.
func (s *stops) UnmarshalJSON(data []byte) error {
	var one *string
	if json.Unmarshal(data, &one) == nil {
		if one != nil {
			*s = stops{*one}
		}
		return nil
	}
	if json.Unmarshal(data, (*[]string)(s)) != nil {
		return bad("stop", "\"stop\" is a text or a list of texts.")
	}
	return nil
}

// prompt checks a request and translates it.
func (r chatRequest) prompt() (models.Prompt, error) {
	p := models.Prompt{
		Temperature: r.Temperature, TopP: r.TopP, Frequency: r.Frequency, Presence: r.Presence, Seed: r.Seed, Stop: r.Stop,
	}
	if err := r.check(); err != nil {
		return p, err
	}
	for _, limit := range []*int{r.MaxTokens, r.MaxCompletion} {
		if limit != nil {
			p.MaxTokens = *limit
		}
	}
	if f := r.ResponseFormat; f != nil && f.Type == "json_object" {
		p.JSON = true
	}
	for _, m := range r.Messages {
		role := m.Role
		if role == "developer" {
			role = "system"
		}
		p.Messages = append(p.Messages, models.Message{Role: role, Content: string(m.Content)})
	}
	return p, nil
}

func (r chatRequest) check() error {
	switch {
	case r.Model == "":
		return bad("model", "Say which model: \"default\" is the route that always exists.")
	case len(r.Messages) == 0 || len(r.Messages) > maxMessages:
		return bad("messages", "Send 1 to %d messages.", maxMessages)
	case r.N != nil && *r.N != 1:
		return bad("n", "One answer is made at a time: leave \"n\" out.")
	case r.Logprobs:
		return bad("logprobs", "Log-probabilities are not given: leave \"logprobs\" out.")
	case len(r.Tools) > 0 || len(r.Functions) > 0:
		return bad("tools", "No model of this route has been qualified for tools: leave \"tools\" out.")
	case len(r.Stop) > maxStops:
		return bad("stop", "Send at most %d texts to stop at.", maxStops)
	case r.ResponseFormat != nil && r.ResponseFormat.Type != "text" && r.ResponseFormat.Type != "json_object":
		return bad("response_format", "The answer can be \"text\" or a \"json_object\".")
	case outside(r.Temperature, 0, 2):
		return bad("temperature", "\"temperature\" is from 0 to 2.")
	case outside(r.TopP, 0, 1):
		return bad("top_p", "\"top_p\" is from 0 to 1.")
	case outside(r.Frequency, -2, 2) || outside(r.Presence, -2, 2):
		return bad("frequency_penalty", "Penalties are from -2 to 2.")
	case r.MaxTokens != nil && *r.MaxTokens < 1 || r.MaxCompletion != nil && *r.MaxCompletion < 1:
		return bad("max_tokens", "\"max_tokens\" is at least 1.")
	}
	for _, m := range r.Messages {
		if m.Role != "system" && m.Role != "developer" && m.Role != "user" && m.Role != "assistant" {
			return bad("messages", "A message's role is \"system\", \"developer\", \"user\" or \"assistant\".")
		}
	}
	return nil
}

func outside(v *float64, low, high float64) bool { return v != nil && !(*v >= low && *v <= high) }

// usage is a call's tokens and cost in a reply.
type usage struct {
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	TotalTokens      int64 `json:"total_tokens"`
	CostNanoUSD      int64 `json:"cost_nano_usd"`
}

func (b bill) usage() *usage {
	return &usage{b.TokensIn, b.TokensOut, b.TokensIn + b.TokensOut, b.Cost}
}

type chatReply struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []chatChoice `json:"choices"`
	Usage   *usage       `json:"usage,omitempty"`
}

type chatChoice struct {
	Index    int        `json:"index"`
	Message  *chatDelta `json:"message,omitempty"`
	Delta    *chatDelta `json:"delta,omitempty"`
	Logprobs *struct{}  `json:"logprobs"`
	Finish   *string    `json:"finish_reason"`
}

type chatDelta struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

func (g *Gateway) serveChat(w http.ResponseWriter, r *http.Request, p auth.Principal) error {
	leave, err := g.enter()
	if err != nil {
		return err
	}
	defer leave()
	var req chatRequest
	if err := readBody(w, r, &req); err != nil {
		return err
	}
	prompt, err := req.prompt()
	if err != nil {
		return err
	}
	m, err := g.find(r.Context(), p, auth.ModelInfer, req.Model, models.Completion)
	if err != nil {
		return err
	}
	c := completion{principal: p, prompt: prompt}
	reply := chatReply{ID: "chatcmpl-" + rand.Text(), Created: now(), Model: m.Name}
	if req.Stream {
		s := &sse{w: w, reply: reply, withUsage: req.StreamOptions != nil && req.StreamOptions.IncludeUsage}
		return s.end(g.complete(r.Context(), c, m, s.chunk))
	}
	var text strings.Builder
	var last models.Chunk
	var paid bill
	err = g.complete(r.Context(), c, m, func(chunk models.Chunk, b bill) error {
		text.WriteString(chunk.Text)
		last, paid = chunk, b
		return nil
	})
	if err != nil {
		return err
	}
	said := text.String()
	reply.Object, reply.Usage = "chat.completion", paid.usage()
	reply.Choices = []chatChoice{{Message: &chatDelta{Role: "assistant", Content: &said}, Finish: &last.Reason}}
	writeJSON(w, http.StatusOK, reply)
	return nil
}
