package library

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/cloister-os/cloister/agents/memory"
	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/search/lex"
)

// Question is the input of the agent answer. A statement is a memory that was put
// aside (memory.Service.Hold): its id stands in place of the words, so that the run
// does not keep what may be forgotten.
type Question struct {
	answer.Question
	Memory string `json:"memory,omitempty"`
}

// The outcomes beside those of graph/answer.
const (
	Kept       answer.Outcome = "kept"   // a statement, which is remembered
	FromMemory answer.Outcome = "memory" // the sources do not state it, and the person told it
)

// Role is what a memory is to an answer.
type Role string

// The roles.
const (
	RoleKept   Role = "kept"   // it is what was said
	RoleAnswer Role = "answer" // it is the answer
	RoleAgrees Role = "agrees" // it stands beside the answer of the sources, which say the same
	RoleBeside Role = "beside" // it stands beside the answer of the sources, which come first
)

// Answer is the result of the agent answer. It names memories and holds no words of
// them: Tell adds those for who may read them.
type Answer struct {
	answer.Answer
	Memories []Used `json:"memories,omitempty"`
}

// Used is a memory in an answer.
type Used struct {
	ID   string `json:"id"`
	Role Role   `json:"role"`
}

// minBeside is how surely a question must be about a memory for it to stand beside
// an answer that the sources state.
const minBeside = 0.75

// recall keeps the statement, or finds the memories that the question is about.
func (s *answering) recall(ctx context.Context, c *run.Call) ([]memory.Recalled, error) {
	q, err := run.Input[Question](c)
	if err != nil || s.memories == nil {
		return nil, err
	}
	if q.Memory == "" {
		return s.memories.Recall(ctx, c.Principal(), q.Text, c.Run())
	}
	m, err := s.memories.Keep(ctx, c.Principal(), q.Memory, c.Run())
	return []memory.Recalled{{ID: m.ID, Score: 1}}, err
}

// asked makes a step that does nothing when there is a statement and no question.
func asked[T any](step func(context.Context, *run.Call) (T, error)) func(context.Context, *run.Call) (T, error) {
	return func(ctx context.Context, c *run.Call) (T, error) {
		if q, err := run.Input[Question](c); err != nil || q.Memory != "" {
			var none T
			return none, err
		}
		return step(ctx, c)
	}
}

// acknowledge is the answer to a statement.
func acknowledge(found []memory.Recalled) Answer {
	out := Answer{Answer: answer.Answer{Outcome: Kept, Citations: []answer.Citation{}, Freshness: []answer.Freshness{}}}
	for _, m := range found {
		out.Memories = append(out.Memories, Used{m.ID, RoleKept})
	}
	return out
}

// withMemories adds to the answer of the sources what the person told. What the
// sources state comes first, and the memory beside it; otherwise the memory is the
// answer, and what the sources have that comes close stays below it.
func (s *answering) withMemories(ctx context.Context, c *run.Call, a answer.Answer, found []memory.Recalled) (Answer, error) {
	out := Answer{Answer: a}
	var ids []string
	for _, m := range found {
		if a.Outcome != answer.Stated || m.Score >= minBeside {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 {
		return out, nil
	}
	told, err := s.memories.Use(ctx, c.Principal(), c.Run(), ids...)
	if err != nil {
		return out, err
	}
	for _, id := range ids {
		m, ok := told[id]
		switch {
		case !ok: // forgotten meanwhile
		case a.Outcome != answer.Stated:
			out.Memories = append(out.Memories, Used{id, RoleAnswer})
		case agrees(a, m):
			out.Memories = append(out.Memories, Used{id, RoleAgrees})
		default:
			out.Memories = append(out.Memories, Used{id, RoleBeside})
		}
	}
	if a.Outcome != answer.Stated && len(out.Memories) > 0 {
		out.Outcome, out.Answer.Answer = FromMemory, ""
	}
	return out, nil
}

// agrees reports whether the sources say what the memory says: every word of it that
// tells something stands in the answer or in what it cites.
func agrees(a answer.Answer, m memory.Memory) bool {
	said := map[string]bool{}
	for _, stem := range lex.Stems(a.Answer) {
		said[stem] = true
	}
	for _, c := range a.Citations {
		for _, stem := range lex.Stems(c.Text) {
			said[stem] = true
		}
	}
	value := m.Value
	if value == "" {
		value = m.Words
	}
	content := lex.Content(lex.Tokens(value))
	for _, t := range content {
		if !said[t.Stem] {
			return false
		}
	}
	return len(content) > 0
}

// Asked is for run.Config: it puts the words of a statement in the place of its
// question, for the person whose it is.
func Asked(memories *memory.Service) func(context.Context, auth.Principal, []*run.Run) error {
	return func(ctx context.Context, p auth.Principal, runs []*run.Run) error {
		said := map[*run.Run]Question{}
		var ids []string
		for _, r := range runs {
			var q Question
			if r.Agent != AnswerName || r.Input(&q) != nil || q.Memory == "" {
				continue
			}
			said[r] = q
			ids = append(ids, q.Memory)
		}
		there, err := memories.Open(ctx, p, ids...)
		if err != nil {
			return err
		}
		for r, q := range said {
			q.Text = ForgottenWords
			if m, ok := there[q.Memory]; ok {
				q.Text = m.Said()
			}
			if err := r.Restate(q); err != nil {
				return err
			}
		}
		return nil
	}
}

// ForgottenWords stand in place of a statement that is no longer there.
const ForgottenWords = "What you told here was forgotten"

// Told is a memory in an answer, with its words for the person whose it is.
type Told struct {
	ID        string    `json:"id"`
	Role      Role      `json:"role"`
	Sentence  string    `json:"sentence"`        // as it is said in the answer
	Words     string    `json:"words,omitempty"` // the person's own
	Created   time.Time `json:"created,omitzero"`
	Run       string    `json:"run,omitempty"`      // in which it was said
	Replaces  string    `json:"replaces,omitempty"` // the words of the memory whose place it took
	Forgotten bool      `json:"forgotten,omitempty"`
}

// forgotten is said in place of a memory that is no longer there.
const forgotten = "What you had told was forgotten since."

// Tell puts the words of its memories into an answer that somebody may read: into
// "answer" where it is made of them alone, and into "memories". Anything else is
// left as it is.
func Tell(ctx context.Context, memories *memory.Service, p auth.Principal, result json.RawMessage) (json.RawMessage, error) {
	var a struct {
		Outcome  answer.Outcome `json:"outcome"`
		Memories []Used         `json:"memories"`
	}
	if len(result) == 0 || memories == nil {
		return result, nil
	}
	if err := json.Unmarshal(result, &a); err != nil || len(a.Memories) == 0 {
		return result, err
	}
	told, err := ToldOf(ctx, memories, p, a.Memories)
	if err != nil {
		return nil, err
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(result, &whole); err != nil {
		return nil, err
	}
	if whole["memories"], err = json.Marshal(told); err != nil {
		return nil, err
	}
	if a.Outcome == Kept || a.Outcome == FromMemory {
		if whole["answer"], err = json.Marshal(Sentences(told)); err != nil {
			return nil, err
		}
	}
	return json.Marshal(whole)
}

// Sentences are the sentences of an answer that is made of memories alone.
func Sentences(told []Told) string {
	var out []string
	for _, t := range told {
		out = append(out, t.Sentence)
	}
	return strings.Join(out, "\n")
}

// ToldOf tells the memories of an answer to the person whose they are.
func ToldOf(ctx context.Context, memories *memory.Service, p auth.Principal, used []Used) ([]Told, error) {
	var ids []string
	for _, u := range used {
		ids = append(ids, u.ID)
	}
	there, err := memories.Open(ctx, p, ids...)
	if err != nil {
		return nil, err
	}
	var before []string
	for _, m := range there {
		if m.Supersedes != "" {
			before = append(before, m.Supersedes)
		}
	}
	older, err := memories.Open(ctx, p, before...)
	if err != nil {
		return nil, err
	}
	out := make([]Told, len(used))
	for i, u := range used {
		m, ok := there[u.ID]
		if !ok {
			out[i] = Told{ID: u.ID, Role: u.Role, Forgotten: true, Sentence: forgotten}
			continue
		}
		out[i] = Told{ID: m.ID, Role: u.Role, Words: m.Words, Created: m.Created, Run: m.Evidence.Run, Replaces: older[m.Supersedes].Words}
		out[i].Sentence = sentence(u.Role, m, out[i].Replaces)
	}
	return out, nil
}

func sentence(role Role, m memory.Memory, replaces string) string {
	switch role {
	case RoleKept:
		out := fmt.Sprintf("I will remember: “%s”.", m.Words)
		if replaces != "" {
			out += fmt.Sprintf(" It takes the place of “%s”.", replaces)
		}
		return out
	case RoleAgrees:
		return "The sources say it, and so did you. " + m.Sentence()
	case RoleBeside:
		return "The sources come first. " + m.Sentence()
	}
	return m.Sentence()
}
