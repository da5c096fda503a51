package uitest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

func ago(d time.Duration) time.Time { return now.Add(-d) }

func sources() []view.Source {
	return []view.Source{
		{
			Name: "payments", Kind: "git", Try: []string{"Who last changed settlement/retry.go?"}, Path: "/srv/git/payments.git", Audience: []string{"user"}, Tone: view.OK, State: "up to date", AsOf: ago(40 * time.Second), Version: 48112, Next: now.Add(4 * time.Minute),
			Counts: []view.Number{{Name: "commits", Value: 4182}, {Name: "people", Value: 37}, {Name: "files", Value: 1264}, {Name: "tags", Value: 58}, {Name: "documents", Value: 91}},
			Sync:   &view.Sync{Started: ago(43 * time.Second), Ended: ago(40 * time.Second), Took: 3200 * time.Millisecond, Written: 214, Claims: 618, Bodies: 12, Skips: 0},
		},
		{
			Name: "handbook", Kind: "files", Try: []string{"Which document explains Retention of payment records?"}, Path: "/srv/documents/handbook", Audience: []string{riskTeam, "administrator"}, Tone: view.OK, State: "up to date", AsOf: ago(6 * time.Minute), Version: 48090, Next: now.Add(4 * time.Minute),
			Counts: []view.Number{{Name: "documents", Value: 318}, {Name: "sections", Value: 2907}, {Name: "sentences", Value: 40211}},
			Sync: &view.Sync{
				Started: ago(6*time.Minute + 11*time.Second), Ended: ago(6 * time.Minute), Took: 11400 * time.Millisecond, Written: 12, Claims: 618, Bodies: 12, Skips: 214,
				Skipped: []view.Skipped{
					{Item: "archive/2019/board-minutes.pdf", Why: "PDF is not read yet: Markdown, HTML and text are."},
					{Item: "exports/ledger.csv.gz", Why: "Not text."},
					{Item: "shared/legal", Why: "A symbolic link that leaves the folder."},
				},
			},
		},
		{
			Name: "runbooks", Kind: "files", Path: "/srv/documents/runbooks", Audience: []string{"auditor"}, Tone: view.Live, State: "syncing", AsOf: ago(26 * time.Hour), Version: 44731,
			Counts: []view.Number{{Name: "documents", Value: 74}, {Name: "sections", Value: 611}, {Name: "sentences", Value: 8120}},
			Sync:   &view.Sync{Running: true, Stage: "Reading documents", Done: 1834, Total: 4410, Started: ago(21 * time.Second), Written: 702},
		},
		{
			Name: "core-banking-interfaces", Kind: "git", Path: "/mnt/legacy/core-banking/interfaces.git", Tone: view.Bad, State: "failed", AsOf: ago(73 * time.Hour), Version: 39004,
			Counts: []view.Number{{Name: "commits", Value: 921}, {Name: "people", Value: 12}, {Name: "files", Value: 388}},
			Sync: &view.Sync{
				Started: ago(9 * time.Minute), Ended: ago(9 * time.Minute), Took: 80 * time.Millisecond,
				Error: "There is no git repository at /mnt/legacy/core-banking/interfaces.git any more. Mount it again, or remove the source.",
			},
		},
	}
}

func models() []view.Model {
	return []view.Model{
		{Name: "all-minilm-l6-v2", Kind: "embedding", Bytes: 45 << 20, Licence: "Apache-2.0", Tone: view.OK, State: "ready", Imported: ago(50 * time.Hour)},
		{Name: "gemma3-270m", Kind: "completion", Bytes: 241 << 20, Licence: "Gemma", Tone: view.Warn, State: "terms not accepted", Imported: ago(50 * time.Hour)},
	}
}

func keys() []view.Key {
	return []view.Key{
		{ID: "3hq8zk5n0v7w2c9d", Name: "release-notes", Scopes: []string{"ask"}, Sources: []string{"payments"}, Created: ago(20 * 24 * time.Hour), Expires: now.Add(70 * 24 * time.Hour)},
		{ID: "x2m6t9r4b1y8f5g0", Name: "chat-frontend", Scopes: []string{"ask", "model"}, Sources: []string{"payments", "handbook"}, Created: ago(44 * 24 * time.Hour), Expires: now.Add(46 * 24 * time.Hour)},
		{ID: "p7d3s0k6j9l2q5w8", Name: "audit-archive", Scopes: []string{"audit"}, Created: ago(100 * 24 * time.Hour), Expires: ago(10 * 24 * time.Hour)},
	}
}

func policies() []view.Policy {
	return []view.Policy{
		{ID: "administrators-manage", Effect: "permit", About: "Administrators may do everything.", Version: 12, Text: `// Administrators may do everything.
@id("administrators-manage")
permit (
  principal in Role::"administrator",
  action,
  resource
);`},
		{ID: "people-ask", Effect: "permit", About: "Everyone who is signed in may ask.", Version: 12, Text: `// Everyone who is signed in may ask.
@id("people-ask")
permit (
  principal is User,
  action in [Action::"ask", Action::"source.read"],
  resource
);`},
		{ID: "keys-within-scope", Effect: "permit", About: "A key may ask about the sources it names, and nothing else.", Version: 12, Text: `// A key may ask about the sources it names, and nothing else.
@id("keys-within-scope")
permit (
  principal is Key,
  action == Action::"source.read",
  resource is Source
)
when { principal.sources.contains(resource.name) };`},
		{ID: "runbooks-for-operators", Effect: "forbid", About: "Runbooks name machines and ways in: operators only.", Version: 311, Text: `// Runbooks name machines and ways in: operators only.
@id("runbooks-for-operators")
forbid (
  principal,
  action == Action::"source.read",
  resource == Source::"runbooks"
)
unless { principal in Role::"operator" || principal in Role::"administrator" };`},
	}
}

const retention = `Retention of payment records

Card authorisations are kept for 13 months. Settlement files are kept for seven years, counted from the value date. Chargeback evidence is kept for 24 months after the case is closed.

Deletion runs every Sunday at 02:00 UTC and is on the audit record.

Exceptions

A legal hold stops deletion for the records it names. Only the data protection officer can place or lift one.
`

var commit = `{"sha":"9b1f7e02c4d855a61f0a3c7e92d4b8e6f1a20c37","author":{"name":"Tomás Ferreira","mail":"tomas.ferreira@meridian.example"},"time":"2026-11-19T14:02:51Z","subject":"settlement: retry a file whose acknowledgement was lost","body":"The clearing house acknowledges twice when its queue fails over.\nA lost acknowledgement is asked for again after 90 s instead of\nbeing reported as rejected.","changes":[{"kind":"modify","path":"settlement/retry.go"},{"kind":"add","path":"settlement/retry_test.go"}]}`

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func cite(n int, kind, source, record, title string, heading []string, uri, whole, text string, version uint64) view.Citation {
	start := int64(strings.Index(whole, text))
	c := ui.Cite{Source: source, Record: record, Version: version, Start: start, End: start + int64(len(text)), SHA256: sum(text)}
	return view.Citation{
		N: n, Kind: kind, Source: source, Title: title, Heading: heading, URI: uri, Text: text, Raw: kind == "commit",
		Version: version, SHA256: c.SHA256, URL: ui.CiteURL(c, ""),
	}
}

func done(notes ...string) []view.Stage {
	names := []string{"Recall", "Understand", "Gather", "Compose", "Verify", "Cite"}
	out := make([]view.Stage, len(names))
	for i, n := range names {
		out[i] = view.Stage{Name: n, Tone: view.OK}
		if i > 0 && i <= len(notes) {
			out[i].Note = notes[i-1]
		}
	}
	return out
}

func fresh(states ...view.Source) []view.Fresh {
	var out []view.Fresh
	for _, s := range states {
		out = append(out, view.Fresh{Source: s.Name, AsOf: s.AsOf, Tone: s.Tone, State: s.State})
	}
	return out
}

// runs are questions, the newest first. The two about the retry file are one
// conversation, the others are each one of their own.
func runs() []view.Run {
	s := sources()
	list := append(toldRuns(s), []view.Run{
		{
			ID: "01K9QZ4G8P5TYC2VNE7AK3XW6R", Talk: "01K9QZ3T7M0VXRB4E6WJ2H8NDA", Question: "And when was that?", Asked: ago(time.Minute), Took: 27 * time.Millisecond, Cost: 13_900,
			Stages: done("the same change", "1 row", "from a template", "1 of 1 claims hold", "1 citation"),
			Answer: &view.Answer{
				Outcome: view.Answered, Understood: "who changed settlement/retry.go on 2026-11-19",
				Resolved: []view.Fact{{Name: "that", Text: "the change of 2026-11-19"}},
				Spans:    []view.Span{{Text: "Tomás Ferreira changed it on "}, {Text: "19 November 2026", Strong: true}, {Text: ": “settlement: retry a file whose acknowledgement was lost”.", Cites: []int{1}}},
				Citations: []view.Citation{cite(1, "commit", "payments", "commit/9b1f7e02", "settlement: retry a file whose acknowledgement was lost", nil, "9b1f7e02c4d8", commit,
					`"subject":"settlement: retry a file whose acknowledgement was lost"`, 48112)},
				Freshness: fresh(s[0]),
			},
		},
		{
			ID: "01K9QZ3T7M0VXRB4E6WJ2H8NDA", Question: "Who last changed settlement/retry.go?", Asked: ago(2 * time.Minute), Took: 31 * time.Millisecond, Cost: 14_200,
			Stages: done("last change of a file", "1 row", "from a template", "1 of 1 claims hold", "1 citation"),
			Answer: &view.Answer{
				Outcome: view.Answered, Understood: "the newest commit on the default branch that modifies settlement/retry.go",
				Spans: []view.Span{{Text: "Tomás Ferreira", Strong: true}, {Text: " changed settlement/retry.go last, on 19 November 2026: “settlement: retry a file whose acknowledgement was lost”.", Cites: []int{1}}},
				Citations: []view.Citation{cite(1, "commit", "payments", "commit/9b1f7e02", "settlement: retry a file whose acknowledgement was lost", nil, "9b1f7e02c4d8", commit,
					`"subject":"settlement: retry a file whose acknowledgement was lost"`, 48112)},
				Freshness: fresh(s[0]),
			},
		},
		{
			ID: "01K9QYV2C8D1JH5S0K7XWBTN3Q", Question: "How long are settlement files kept?", Asked: ago(9 * time.Minute), Took: 148 * time.Millisecond, Cost: 96_800,
			Stages: done("a question to the documents", "40 sentences", "quoted", "1 of 1 claims hold", "2 citations"),
			Answer: &view.Answer{
				Outcome: view.Answered, Understood: "a fact stated in a document",
				Spans: []view.Span{{Text: "Settlement files are kept for "}, {Text: "seven years", Strong: true}, {Text: ", counted from the value date.", Cites: []int{1, 2}}},
				Citations: []view.Citation{
					cite(1, "document", "handbook", "file/policies/retention.md", "Retention of payment records", []string{"Policies", "Retention of payment records"}, "policies/retention.md", retention,
						"Settlement files are kept for seven years, counted from the value date.", 48090),
					cite(2, "document", "payments", "file/docs/settlement.md", "Settlement", []string{"Settlement", "Storage"}, "docs/settlement.md", settlement,
						"Files go to the archive after 30 days and are deleted seven years after the value date.", 48112),
				},
				Freshness: fresh(s[1], s[0], s[3]),
			},
		},
		{
			ID: "01K9QX0M4S6P2Y9FGTZC1R7DKE", Question: "Which team is on call for card authorisation at the weekend?", Asked: ago(52 * time.Minute), Took: 203 * time.Millisecond, Cost: 101_000,
			Stages: done("a question to the documents", "40 sentences", "nothing certain", "0 of 1 claims hold", "2 passages"),
			Answer: &view.Answer{
				Outcome: view.Closest, Understood: "a fact stated in a document", Note: "No source states this directly. The closest passages:",
				Citations: []view.Citation{
					cite(1, "document", "handbook", "file/teams/on-call.md", "On call", []string{"Teams", "On call"}, "teams/on-call.md", onCall,
						"The rota for card services is agreed each quarter and published by the duty manager.", 48090),
					cite(2, "document", "handbook", "file/teams/on-call.md", "On call", []string{"Teams", "On call", "Weekends"}, "teams/on-call.md", onCall,
						"At the weekend the second line answers within 30 minutes.", 48090),
				},
				Freshness: fresh(s[1], s[0], s[2]),
			},
		},
		{
			ID: "01K9QV7H2W3N8B5JX6Q4A9TMZR", Question: "What is the recovery time objective of the Zürich ledger replica?", Asked: ago(3 * time.Hour), Took: 187 * time.Millisecond, Cost: 98_400,
			Stages: done("a question to the documents", "12 sentences", "nothing certain", "0 of 0 claims hold", "none"),
			Answer: &view.Answer{
				Outcome: view.Unknown, Understood: "a fact stated in a document",
				Note:      "Searched: payments, handbook, runbooks. No passage holds: Zürich, replica.",
				Freshness: fresh(s[0], s[1], s[2]),
			},
		},
		{
			ID: "01K9QT1Z9E5C7R3VKD0M8XHWPB", Question: "When was the chargeback importer added, and in which release?", Asked: ago(27 * time.Hour), Took: 90 * time.Second,
			Failed: "The node stopped while this was being read and the run took longer than it may. Ask again.", Stages: done()[:3],
		},
	}...)
	for i := range list {
		if list[i].Talk == "" {
			list[i].Talk = list[i].ID
		}
	}
	return list
}

const settlement = `Settlement

Storage

Files arrive by SFTP and are checked against the control sum in the trailer. Files go to the archive after 30 days and are deleted seven years after the value date. The archive is read-only.
`

const onCall = `On call

The rota for card services is agreed each quarter and published by the duty manager. Hand-over is at 08:00 UTC on weekdays.

Weekends

At the weekend the second line answers within 30 minutes. The duty manager decides whether to wake the owner of a service.
`

func firstRecords() []view.Record {
	return []view.Record{record(0, ago(55*24*time.Hour), "event", "audit.start", "Log audit", "", "")}
}

func record(seq uint64, t time.Time, kind, action, resource, decision, status string) view.Record {
	r := view.Record{
		Seq: seq, Version: 40000 + seq, Time: t, ID: strings.ToUpper(sum(fmt.Sprint("record", seq))[:26]), Kind: kind,
		ActorKind: "User", Actor: "u_4jx7q2m9ktw0", Action: action, Resource: resource, Decision: decision, Status: status,
		Node: "cloister-1", ArgsSHA256: sum(fmt.Sprint("args", seq)), UseCase: action, LeafHash: sum(fmt.Sprint("leaf", seq)),
	}
	if decision == "allow" {
		r.Policies = []string{"administrators-manage"}
	}
	if kind == "outcome" {
		r.Intent, r.Cost = sum(fmt.Sprint("record", seq-1))[:26], 14_200
		r.Usage = []view.Fact{{Name: "rows", Text: "1"}, {Name: "bytes", Text: "1874"}}
	}
	r.JSON = fmt.Sprintf(`{"action":%q,"actor":{"id":%q,"kind":"User"},"args_sha256":%q,"decision":%q,"id":%q,"kind":%q,"node":"cloister-1","resource":{"id":%q,"type":"Source"},"v":1}`,
		action, r.Actor, r.ArgsSHA256, decision, r.ID, kind, resource)
	return r
}

func records() []view.Record {
	out := firstRecords()
	acts := []struct{ action, resource string }{
		{"ask", "System cloister"}, {"source.read", "Source payments"}, {"run.read", "Run 01K9QZ3T7M0VXRB4E6WJ2H8NDA"}, {"source.fetch", "Source handbook"},
		{"model.embed", "Model all-minilm-l6-v2"}, {"audit.read", "Log audit"}, {"source.manage", "Source runbooks"},
	}
	for seq := uint64(1); seq < 260; seq += 2 {
		a := acts[int(seq/2)%len(acts)]
		t := ago(time.Duration(260-seq) * 41 * time.Second)
		switch {
		case seq%34 == 1 && seq > 1:
			r := record(seq, t, "refusal", "audit.export", "Log audit", "deny", "")
			r.ActorKind, r.Actor, r.Policies = "Key", "3hq8zk5n0v7w2c9d", []string{"default-deny"}
			out = append(out, r, record(seq+1, t, "event", "session.end", "System cloister", "", ""))
		default:
			in, res := record(seq, t, "intent", a.action, a.resource, "allow", ""), record(seq+1, t.Add(40*time.Millisecond), "outcome", a.action, a.resource, "", "ok")
			if a.action == "source.read" || a.action == "model.embed" {
				in.ActorKind, in.Actor, in.OnBehalfOf = "Agent", "answer@4be1c20a97d3", "u_4jx7q2m9ktw0"
				res.ActorKind, res.Actor, res.OnBehalfOf = in.ActorKind, in.Actor, in.OnBehalfOf
				in.Run, res.Run = "01K9QZ3T7M0VXRB4E6WJ2H8NDA", "01K9QZ3T7M0VXRB4E6WJ2H8NDA"
			}
			if seq%58 == 7 {
				res.Status, res.Error = "failed", "there is no git repository at the source's path"
			}
			out = append(out, in, res)
		}
	}
	return out
}

const licence = `Apache License
Version 2.0, January 2004

This sample stands for the licence text that a model pack carries. The page shows the text of the pack as it is, in full, before the model is used for the first time.
`
