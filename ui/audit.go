package ui

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui/view"
)

const recordsOnPage = 50

func (u *pages) audit(w http.ResponseWriter, r *http.Request) error {
	in := r.URL.Query()
	f := view.RecordFilter{
		Kind: in.Get("kind"), Action: in.Get("action"), Since: in.Get("since"), Result: in.Get("result"),
		From: strings.TrimSpace(in.Get("from")), To: strings.TrimSpace(in.Get("to")),
		Actor: strings.TrimSpace(in.Get("actor")), Resource: strings.TrimSpace(in.Get("resource")), Run: strings.TrimSpace(in.Get("run")),
	}
	q := RecordQuery{RecordFilter: f, Limit: recordsOnPage}
	if d := map[string]time.Duration{"hour": time.Hour, "day": day, "week": 7 * day}[f.Since]; d > 0 {
		q.Since = u.Now().Add(-d)
	}
	var notice *view.Notice
	if err := within(&q, f); err != nil {
		notice = &view.Notice{Tone: view.Bad, Title: err.Error()}
	}
	q.Before, _ = strconv.ParseUint(in.Get("before"), 10, 64) // what does not parse is the newest page
	q.After, _ = strconv.ParseUint(in.Get("after"), 10, 64)
	page, err := u.Records.List(r.Context(), who(r), q)
	if err != nil {
		return err
	}
	d := view.Records{
		Filter: f, Rows: page.Rows, Scanned: page.Scanned, Notice: notice, ExportURL: exportURL(f),
		Results: choices(f.Result, "", "Any", "allow", "Permitted", "deny", "Refused", "ok", "Done", "failed", "Failed", "in-doubt", "In doubt"),
		Kinds:   choices(f.Kind, "", "Any", "intent", "Intent", "outcome", "Outcome", "refusal", "Refusal", "event", "Event"),
		Times:   choices(f.Since, "", "Ever", "hour", "Last hour", "day", "Last 24 hours", "week", "Last 7 days"),
		Actions: actionChoices(f.Action),
	}
	if d.Log, err = u.Records.Log(r.Context(), who(r)); err != nil {
		return err
	}
	if page.Older > 0 {
		d.Older = auditURL(in, "before", page.Older)
	}
	if page.Newer && len(page.Rows) > 0 {
		d.Newer = auditURL(in, "after", page.Rows[0].Seq)
	}
	return show(w, r, http.StatusOK, view.AuditPage(u.frame(r, "audit", "Audit log"), d))
}

// timeForm is what a field for a date and a time sends.
const timeForm = "2006-01-02T15:04"

// timeOf reads a time as typed, in UTC, with or without seconds; "" is no time.
func timeOf(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, form := range []string{timeForm, timeForm + ":05", time.RFC3339} {
		if t, err := time.Parse(form, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, &InputError{Text: "Give a time as 2026-01-31T08:00, in UTC."}
}

// within narrows a query to the times of a filter.
func within(q *RecordQuery, f view.RecordFilter) error {
	from, err := timeOf(f.From)
	if err != nil {
		return err
	}
	if !from.IsZero() {
		q.Since = from
	}
	q.Until, err = timeOf(f.To)
	if err == nil && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		q.Until, err = time.Time{}, &InputError{Text: "The time ends before it begins; its end was left out."}
	}
	return err
}

// exportURL is the export of the times of a filter.
func exportURL(f view.RecordFilter) string {
	q := url.Values{}
	if f.From != "" {
		q.Set("since", f.From)
	}
	if f.To != "" {
		q.Set("until", f.To)
	}
	if len(q) == 0 {
		return "/audit/export"
	}
	return "/audit/export?" + q.Encode()
}

// auditURL is the same filter at another place of the log.
func auditURL(in url.Values, name string, seq uint64) string {
	q := url.Values{}
	for _, k := range []string{"kind", "action", "result", "since", "from", "to", "actor", "resource", "run"} {
		if v := in.Get(k); v != "" {
			q.Set(k, v)
		}
	}
	q.Set(name, strconv.FormatUint(seq, 10))
	return "/audit?" + q.Encode()
}

// choices makes options from pairs of value and text.
func choices(on string, pairs ...string) []view.Choice {
	var out []view.Choice
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, view.Choice{Value: pairs[i], Text: pairs[i+1], On: pairs[i] == on})
	}
	return out
}

// actionChoices are the actions that policies speak of, and the one that is on: the
// system's own events, which links lead to, have other names.
func actionChoices(on string) []view.Choice {
	out, known := choices(on, "", "Any"), on == ""
	for _, a := range auth.Actions() {
		out = append(out, view.Choice{Value: string(a), Text: string(a), On: string(a) == on})
		known = known || string(a) == on
	}
	if !known {
		out = append(out, view.Choice{Value: on, Text: on, On: true})
	}
	return out
}

func (u *pages) record(w http.ResponseWriter, r *http.Request) error {
	seq, err := strconv.ParseUint(r.PathValue("seq"), 10, 64)
	if err != nil {
		return store.ErrNotFound
	}
	rec, err := u.Records.Get(r.Context(), who(r), seq)
	if err != nil {
		return err
	}
	log, err := u.Records.Log(r.Context(), who(r))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, view.RecordPage(u.frame(r, "audit", fmt.Sprintf("Record %d", seq)), rec, log))
}

func (u *pages) exportForm(w http.ResponseWriter, r *http.Request) error {
	return u.exportPage(w, r, http.StatusOK, view.ExportForm{
		From: r.URL.Query().Get("from"), To: r.URL.Query().Get("to"), Since: r.URL.Query().Get("since"), Until: r.URL.Query().Get("until"),
	})
}

func (u *pages) exportPage(w http.ResponseWriter, r *http.Request, code int, f view.ExportForm) error {
	var err error
	if f.Log, err = u.Records.Log(r.Context(), who(r)); err != nil {
		return err
	}
	f.Command = "cloister-verify --log-key " + f.Log.Key + " cloister-audit.bundle"
	f.Compare = "cloister-verify --log-key " + f.Log.Key + " --after checkpoint.txt cloister-audit.bundle"
	return show(w, r, code, view.ExportPage(u.frame(r, "audit", "Export evidence"), f))
}

// export streams a bundle. A refusal comes before the first byte and is a page;
// a failure after it breaks the connection, so that no browser keeps half a
// bundle for a whole one.
func (u *pages) export(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	f := view.ExportForm{From: field(r, "from"), To: field(r, "to"), Since: field(r, "since"), Until: field(r, "until")}
	which, err := exportRange(f)
	if err != nil {
		f.Notice = &view.Notice{Tone: view.Bad, Title: err.Error()}
		return u.exportPage(w, r, http.StatusUnprocessableEntity, f)
	}
	out := &download{w: w, name: "cloister-audit.bundle"}
	err = u.Records.Export(r.Context(), who(r), which, out)
	if err == nil {
		return nil
	}
	if out.begun {
		u.Logger.ErrorContext(r.Context(), "audit export broke off", "error", err)
		panic(http.ErrAbortHandler)
	}
	if _, n, ok := wrongInput(err); ok && n != nil {
		f.Notice = n
		return u.exportPage(w, r, http.StatusUnprocessableEntity, f)
	}
	return err
}

// exportRange turns first and last, and the times, as typed, into a range.
func exportRange(f view.ExportForm) (r RecordRange, err error) {
	if f.From != "" {
		if r.From, err = strconv.ParseUint(f.From, 10, 63); err != nil {
			return r, &InputError{Text: "The first record must be a whole number."}
		}
	}
	if f.To != "" {
		if r.To, err = strconv.ParseUint(f.To, 10, 63); err != nil {
			return r, &InputError{Text: "The last record must be a whole number."}
		}
		r.To++
		if r.To <= r.From {
			return r, &InputError{Text: "The last record must not come before the first."}
		}
	}
	if r.Since, err = timeOf(f.Since); err != nil {
		return r, err
	}
	if r.Until, err = timeOf(f.Until); err != nil {
		return r, err
	}
	if !r.Until.IsZero() && !r.Since.Before(r.Until) {
		return r, &InputError{Text: "The time must not end before it begins."}
	}
	return r, nil
}

// download is a response that becomes a file with its first byte.
type download struct {
	w     http.ResponseWriter
	name  string
	begun bool
}

func (d *download) Write(b []byte) (int, error) {
	if !d.begun {
		d.begun = true
		h := d.w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Disposition", `attachment; filename="`+d.name+`"`)
	}
	return d.w.Write(b)
}
