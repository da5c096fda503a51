package uitest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

// memories are what the person told. One was corrected once: the newest two are one
// fact.
func memories() []view.Memory {
	return []view.Memory{
		{ID: "m4day2", Words: "our release day is Thursday", Before: "Please remember that ", After: ".", Created: ago(2 * time.Hour), Run: "01K9QZ9R4M5T0V7XB2E8WJ6HNC", Current: true, Uses: 3, Last: ago(20 * time.Minute)},
		{ID: "m1day1", Words: "our release day is Wednesday", Created: ago(41 * 24 * time.Hour), Run: "01K9Q00000000000000000000A", Superseded: ago(2 * time.Hour), Uses: 12, Last: ago(26 * time.Hour)},
		{ID: "m3call", Words: "I am on call this week", Created: ago(24 * time.Hour), From: ago(24 * time.Hour), Until: now.Add(6 * 24 * time.Hour), Current: true, Uses: 1, Last: ago(time.Hour)},
		{ID: "m2host", Words: "the staging host of the settlement service is hv-12.staging.meridian.example", Created: ago(9 * 24 * time.Hour), Corrects: true, Current: true},
		{ID: "m0away", Words: "I am in Zürich until 2026-11-20", Created: ago(12 * 24 * time.Hour), From: ago(12 * 24 * time.Hour), Until: ago(2 * 24 * time.Hour), Current: true, Uses: 2, Last: ago(5 * 24 * time.Hour)},
	}
}

// toldRuns are a statement, and a question that is answered from it.
func toldRuns(s []view.Source) []view.Run {
	told := view.Told{ID: "m4day2", Words: "our release day is Thursday", Created: ago(2 * time.Hour), Run: "01K9QZ9R4M5T0V7XB2E8WJ6HNC"}
	kept, answer, beside := told, told, told
	kept.Role, kept.Sentence = "kept", "I will remember: “our release day is Thursday”. It takes the place of “our release day is Wednesday”."
	answer.Role, answer.Sentence = "answer", "You told me on 23 November 2026: our release day is Thursday."
	beside.Role, beside.Sentence = "beside", "The sources come first. You told me on 14 November 2026: settlement files are kept for ten years."
	return []view.Run{
		{
			ID: "01K9QZ9R4M5T0V7XB2E8WJ6HND", Question: "When do we release?", Asked: ago(20 * time.Minute), Took: 44 * time.Millisecond, Cost: 9_100, Stages: done(),
			Answer: &view.Answer{
				Outcome: view.FromMemory, Memories: []view.Told{answer},
				Citations: []view.Citation{cite(1, "document", "payments", "file/docs/settlement.md", "Settlement", []string{"Settlement", "Storage"}, "docs/settlement.md", settlement, "The archive is read-only.", 48112)},
				Freshness: fresh(s[0], s[1]),
			},
		},
		{
			ID: "01K9QZ9R4M5T0V7XB2E8WJ6HNC", Question: "Please remember that our release day is Thursday.", Memory: "m4day2", Asked: ago(2 * time.Hour), Took: 12 * time.Millisecond, Stages: done(),
			Answer: &view.Answer{Outcome: view.Kept, Memories: []view.Told{kept}},
		},
		{
			ID: "01K9QZ9R4M5T0V7XB2E8WJ6HNB", Question: "How long are settlement files kept?", Asked: ago(3 * time.Hour), Took: 51 * time.Millisecond, Cost: 9_100, Stages: done(),
			Answer: &view.Answer{
				Outcome: view.Answered, Understood: "a fact stated in a document", Memories: []view.Told{beside},
				Spans: []view.Span{{Text: "Settlement files are kept for "}, {Text: "seven years", Strong: true}, {Text: ", counted from the value date.", Cites: []int{1}}},
				Citations: []view.Citation{cite(1, "document", "handbook", "file/policies/retention.md", "Retention of payment records", []string{"Policies", "Retention of payment records"}, "policies/retention.md", retention,
					"Settlement files are kept for seven years, counted from the value date.", 48090)},
				Freshness: fresh(s[1]),
			},
		},
		{
			ID: "01K9Q00000000000000000000A", Question: "What you told here was forgotten", Memory: "gone", Asked: ago(41 * 24 * time.Hour), Took: 12 * time.Millisecond, Stages: done(),
			Answer: &view.Answer{Outcome: view.Kept, Memories: []view.Told{{ID: "gone", Role: "kept", Forgotten: true, Sentence: "What you had told was forgotten since."}}},
		},
	}
}

type memoryRoom struct{ *World }

func (r memoryRoom) List(context.Context, auth.Principal) ([]view.Memory, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.memories), r.may(auth.MemoryRead)
}

// slot is what a memory is about, well enough for this data.
func slot(m view.Memory) string {
	before, _, _ := strings.Cut(m.Words, " is ")
	return before
}

func (r memoryRoom) at(id string) int {
	return slices.IndexFunc(r.memories, func(m view.Memory) bool { return m.ID == id })
}

func (r memoryRoom) Get(_ context.Context, _ auth.Principal, id string) (m view.Memory, chain []view.Memory, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.MemoryRead); err != nil {
		return m, nil, err
	}
	i := r.at(id)
	if i < 0 {
		return m, nil, store.ErrNotFound
	}
	for _, o := range r.memories {
		if slot(o) == slot(r.memories[i]) {
			chain = append(chain, o)
		}
	}
	return r.memories[i], chain, nil
}

func (r memoryRoom) Add(_ context.Context, _ auth.Principal, _, text string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.MemoryWrite); err != nil {
		return err
	}
	if strings.Contains(text, "?") {
		return &ui.InputError{Field: "text", Text: "Say it as a fact in one sentence of at most 500 bytes, such as “our release day is Thursday”."}
	}
	r.put(view.Memory{Words: text})
	return nil
}

// put adds a memory in front, and takes the place of an older one.
func (r memoryRoom) put(m view.Memory) string {
	m.ID, m.Created, m.Current = fmt.Sprintf("m9new%d", len(r.memories)), now, true
	for i := range r.memories {
		if o := &r.memories[i]; o.Current && slot(*o) == slot(m) {
			o.Current, o.Superseded = false, now
		}
	}
	r.memories = slices.Insert(r.memories, 0, m)
	return m.ID
}

func (r memoryRoom) Edit(_ context.Context, _ auth.Principal, id, _, text string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.MemoryWrite); err != nil {
		return "", err
	}
	if r.at(id) < 0 {
		return "", store.ErrNotFound
	}
	if strings.Contains(text, "?") {
		return "", &ui.InputError{Field: "text", Text: "Say it as a fact in one sentence of at most 500 bytes, such as “our release day is Thursday”."}
	}
	return r.put(view.Memory{Words: text, Corrects: true}), nil
}

func (r memoryRoom) Forget(_ context.Context, _ auth.Principal, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.MemoryWrite); err != nil {
		return err
	}
	i := r.at(id)
	if i < 0 {
		return store.ErrNotFound
	}
	about := slot(r.memories[i])
	r.memories = slices.DeleteFunc(r.memories, func(m view.Memory) bool { return slot(m) == about })
	return nil
}

func (r memoryRoom) ForgetAll(context.Context, auth.Principal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.MemoryWrite); err != nil {
		return err
	}
	r.memories = nil
	return nil
}

func (r memoryRoom) Undo(_ context.Context, _ auth.Principal, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.MemoryWrite); err != nil {
		return err
	}
	i := r.at(id)
	if i < 0 {
		return store.ErrNotFound
	}
	r.memories = slices.Delete(r.memories, i, i+1)
	return nil
}
