package ui

import (
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui/view"
)

const (
	talksOnPage      = 25
	maxQuestionRunes = 2000
	maxTitleRunes    = 200
)

func (u *pages) askForm(w http.ResponseWriter, r *http.Request) error {
	if err := u.needs(r.Context(), who(r), auth.Ask, auth.TheSystem); err != nil {
		return err
	}
	return u.askPage(w, r, http.StatusOK, short(r.URL.Query().Get("q"), maxQuestionRunes), nil)
}

func (u *pages) askPage(w http.ResponseWriter, r *http.Request, code int, question string, n *view.Notice) error {
	if n == nil && r.URL.Query().Has("deleted") {
		n = &view.Notice{Tone: view.OK, Title: "The conversation is deleted", Text: remains}
	}
	before := r.URL.Query().Get("before")
	list := view.Talks{Search: short(strings.TrimSpace(r.URL.Query().Get("title")), maxTitleRunes), Newer: before != ""}
	var err error
	var older string
	list.List, older, err = u.Talks.List(r.Context(), who(r), list.Search, before, talksOnPage)
	if !unseen(&err) && err != nil {
		return err
	}
	if older != "" {
		q := url.Values{"before": {older}}
		if list.Search != "" {
			q.Set("title", list.Search)
		}
		list.Older = "/ask?" + q.Encode()
	}
	sources, err := u.Sources.List(r.Context(), who(r))
	if !unseen(&err) && err != nil {
		return err
	}
	return show(w, r, code, view.AskPage(u.frame(r, "ask", "Ask"), question, try(sources), list, n))
}

// ask starts a run and leads to its conversation, which follows it.
func (u *pages) ask(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	question, talk := strings.Join(strings.Fields(r.PostFormValue("question")), " "), field(r, "talk")
	err := checkQuestion(question)
	id := ""
	if err == nil {
		id, err = u.Runs.Ask(r.Context(), who(r), onceFor(field(r, "once"), talk+"\n"+question), talk, question)
	}
	if wrong, n, ok := wrongInput(err); ok {
		if n == nil {
			n = &view.Notice{Tone: view.Bad, Title: wrong["question"]}
			question = ""
		}
		if talk != "" {
			return u.talkPage(w, r, http.StatusUnprocessableEntity, talk, question, n)
		}
		return u.askPage(w, r, http.StatusUnprocessableEntity, question, n)
	}
	if err != nil {
		return err
	}
	return goTo(w, r, talkURL(id)+"#now")
}

func talkURL(id string) string { return "/ask/" + url.PathEscape(id) }

// onceFor names this question on this rendering of the form.
func onceFor(once, question string) string {
	if once == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(once + "\n" + question))
	return "page " + hex.EncodeToString(sum[:16])
}

func checkQuestion(question string) error {
	if question == "" {
		return &InputError{Text: "Type a question first."}
	}
	if utf8.RuneCountInString(question) > maxQuestionRunes {
		return &InputError{Text: "The question is too long: at most 2000 characters."}
	}
	return checkNoSecret("question", question)
}

func (u *pages) runEvents(w http.ResponseWriter, r *http.Request) error {
	p := u.frame(r, "ask", "")
	return u.stream(w, r, u.runFrames(r, p))
}

func (u *pages) runFrames(r *http.Request, p view.Page) iter.Seq2[frame, error] {
	return func(yield func(frame, error) bool) {
		said := ""
		for run, err := range u.Runs.Watch(r.Context(), who(r), r.PathValue("run")) {
			if err != nil {
				yield(frame{}, err)
				return
			}
			p.Now = u.Now()
			f := frame{html: view.RunLive(p, run), last: !run.Running}
			if now := runWords(run); now != said {
				f.say, said = now, now
			}
			if !yield(f, nil) || f.last {
				return
			}
		}
	}
}

// runWords says how a run fares, for screen readers.
func runWords(run view.Run) string {
	switch {
	case run.Running:
		for _, s := range run.Stages {
			if s.Tone == view.Live {
				return s.Name
			}
		}
		return "Looking"
	case run.Failed != "":
		return "The run failed: " + run.Failed
	case run.Answer == nil:
		return "The run has ended"
	case run.Answer.Outcome == view.Kept, run.Answer.Outcome == view.FromMemory:
		var b strings.Builder
		for _, m := range run.Answer.Memories {
			b.WriteString(m.Sentence + " ")
		}
		return strings.TrimSpace(b.String())
	case run.Answer.Outcome == view.Answered:
		var b strings.Builder
		for _, s := range run.Answer.Spans {
			b.WriteString(s.Text)
		}
		return "Answer: " + b.String()
	case run.Answer.Outcome == view.Closest:
		return "No source states this directly. " + strconv.Itoa(len(run.Answer.Citations)) + " passages come closest."
	default:
		return "The sources do not say."
	}
}

// cite opens cited bytes. Its address is made by CiteURL.
func (u *pages) cite(w http.ResponseWriter, r *http.Request) error {
	c, run, err := parseCite(r.URL.Query())
	if err != nil {
		return err
	}
	cited, err := u.Citations.Open(r.Context(), who(r), c)
	if err != nil {
		return err
	}
	cited.Run = run
	return show(w, r, http.StatusOK, view.CitePage(u.frame(r, "ask", cited.Title), cited))
}

// CiteURL is the page that opens cited bytes; run may be "".
func CiteURL(c Cite, run string) string {
	q := url.Values{
		"source": {c.Source}, "record": {c.Record}, "version": {strconv.FormatUint(c.Version, 10)},
		"start": {strconv.FormatInt(c.Start, 10)}, "end": {strconv.FormatInt(c.End, 10)},
	}
	for name, value := range map[string]string{"sha256": c.SHA256, "run": run} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return "/cite?" + q.Encode() + "#cited"
}

func parseCite(q url.Values) (Cite, string, error) {
	c := Cite{Source: q.Get("source"), Record: q.Get("record"), SHA256: q.Get("sha256")}
	var errs [3]error
	c.Version, errs[0] = strconv.ParseUint(q.Get("version"), 10, 64)
	c.Start, errs[1] = strconv.ParseInt(q.Get("start"), 10, 64)
	c.End, errs[2] = strconv.ParseInt(q.Get("end"), 10, 64)
	for _, err := range errs {
		if err != nil {
			return Cite{}, "", store.ErrNotFound
		}
	}
	if c.Source == "" || c.Record == "" || c.Start < 0 || c.End < c.Start {
		return Cite{}, "", store.ErrNotFound
	}
	return c, q.Get("run"), nil
}

func short(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n]) + "…"
}
