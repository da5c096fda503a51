package wire

import "time"

// NewMemory is a fact to remember.
type NewMemory struct {
	Text string `json:"text" minLength:"1" maxLength:"500" doc:"One sentence, such as \"our release day is Thursday\""`
}

// Memory is a fact that the caller told.
type Memory struct {
	ID           string    `json:"id"`
	Words        string    `json:"words" doc:"The caller's own"`
	Subject      string    `json:"subject,omitempty" doc:"I, we, or absent for a thing that is named"`
	Attribute    string    `json:"attribute,omitempty" doc:"What it is said of; absent for a note"`
	Value        string    `json:"value,omitempty"`
	From         time.Time `json:"from,omitzero" doc:"When it begins to hold, if that was said"`
	Until        time.Time `json:"until,omitzero" doc:"When it ends to hold, if that was said; it is then no longer used"`
	Evidence     Evidence  `json:"evidence"`
	Created      time.Time `json:"created"`
	By           string    `json:"by" doc:"Id of the caller, or of the agent that acted for them"`
	DerivedFrom  string    `json:"derived_from,omitempty" doc:"The memory that it is a correction of"`
	Supersedes   string    `json:"supersedes,omitempty" doc:"The memory whose place it took"`
	SupersededBy string    `json:"superseded_by,omitempty" doc:"The memory that took its place; absent: it is in force"`
	Superseded   time.Time `json:"superseded,omitzero"`
	Uses         int64     `json:"uses" doc:"Answers that it was used in"`
	LastUsed     time.Time `json:"last_used,omitzero"`
}

// Evidence is the range of bytes of what was typed that a memory was made of.
type Evidence struct {
	Run   string `json:"run,omitempty" doc:"The run in which it was said; absent: it was written as a memory"`
	Said  string `json:"said"`
	Start int    `json:"start"`
	End   int    `json:"end"`
}

// ExplainedMemory is a memory with all that was said of the same, newest first.
type ExplainedMemory struct {
	Memory
	Chain []Memory `json:"chain"`
}

// ForgottenMemories says how many memories were forgotten.
type ForgottenMemories struct {
	Forgotten int `json:"forgotten"`
}

// AnswerMemory is a memory that an answer is made of, or stands beside it.
type AnswerMemory struct {
	ID        string    `json:"id"`
	Role      string    `json:"role" enum:"kept,answer,agrees,beside" doc:"kept: it is what was said; answer: it is the answer; agrees, beside: the sources say the same, or come first"`
	Sentence  string    `json:"sentence" doc:"As it is said in the answer"`
	Words     string    `json:"words,omitempty" doc:"The caller's own"`
	Created   time.Time `json:"created,omitzero"`
	Run       string    `json:"run,omitempty" doc:"In which it was said"`
	Replaces  string    `json:"replaces,omitempty" doc:"The words of the memory whose place it took"`
	Forgotten bool      `json:"forgotten,omitempty"`
}
