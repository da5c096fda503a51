package measure

import (
	"fmt"
	"time"

	"github.com/cloister-os/cloister/graph"
)

// World is a small organisation whose facts are known.
type World struct {
	Commits   []Commit
	Files     []File
	Questions []Asked
}

// Asked is a question with what a right answer says. Every wording is asked.
type Asked struct {
	Wordings []string
	Shape    string   // the shape it must be understood as; "" = any
	Holds    []string // each stands in the answer and in a citation
	Not      []string // none of them stands in the answer
	Cites    []string // each stands in a citation, or is its record's key
	None     bool     // the sources do not say: anything but an answer is right
}

// Sources of the world.
const (
	CodeSource = "code"
	DocsSource = "docs"
)

func at(day int) time.Time {
	return time.Date(2025, 1, 6, 9, 30, 0, 0, time.FixedZone("", 3600)).AddDate(0, 0, day)
}

// AsOf is when the world was read.
func AsOf() time.Time { return at(400) }

// NewWorld makes the world.
func NewWorld() World {
	const (
		ada    = "Ada Okafor <ada.okafor@example.org>"
		ben    = "Ben Tran <ben@example.org>"
		chloe  = "Chloé Dubois <chloe.dubois@example.org>"
		dmitri = "Dmitri Volkov <dvolkov@example.org>"
	)
	add := func(p string) Change { return Change{Kind: graph.Adds, Path: p} }
	mod := func(p string) Change { return Change{Kind: graph.Modifies, Path: p} }
	ren := func(old, p string) Change { return Change{Kind: graph.Renames, Path: p, Old: old} }
	del := func(p string) Change { return Change{Kind: graph.Deletes, Path: p} }
	w := World{Commits: []Commit{
		{ada, at(0), "Begin the ledger", []Change{add("README.md"), add("ledger/entry.go"), add("ledger/post.go")}, ""},
		{ben, at(3), "Add currency conversion", []Change{add("money/convert.go"), mod("ledger/post.go")}, ""},
		{chloe, at(9), "Round half to even in conversion", []Change{mod("money/convert.go")}, "v0.1.0"},
		{dmitri, at(15), "Introduce nightly export to CSV", []Change{add("export/csv.go"), mod("README.md")}, ""},
		{ada, at(22), "Rename entry to journal", []Change{ren("ledger/entry.go", "ledger/journal.go")}, ""},
		{ben, at(30), "Fix off-by-one in nightly export", []Change{mod("export/csv.go")}, "v0.2.0"},
		{chloe, at(41), "Add dark mode to the dashboard", []Change{add("web/theme.css"), add("web/dashboard.html")}, ""},
		{dmitri, at(55), "Journal keeps the actor of each posting", []Change{mod("ledger/journal.go")}, ""},
		{ada, at(61), "Support fiscal calendars", []Change{add("money/fiscal.go")}, "v1.0.0"},
		{ben, at(75), "Tidy the dashboard's dark mode contrast", []Change{mod("web/theme.css")}, ""},
		{chloe, at(90), "Remove the old importer", []Change{del("export/import.go"), mod("ledger/post.go")}, ""},
		{dmitri, at(101), "Add rate limiting to the public API", []Change{add("api/limit.go")}, "v1.1.0"},
		{ada, at(120), "Add webhook signatures", []Change{add("api/sign.go"), mod("README.md")}, ""},
	}}
	// The importer was there from the second commit on.
	w.Commits[1].Changes = append(w.Commits[1].Changes, add("export/import.go"))
	w.Files = worldFiles()
	w.Questions = append(graphQuestions(), textQuestions()...)
	w.Questions = append(w.Questions, noQuestions()...)
	return w
}

func day(n int) string { return at(n).Format(time.DateOnly) }

func graphQuestions() []Asked {
	return []Asked{
		{Shape: "last_change", Holds: []string{"Ben Tran", day(30)}, Wordings: []string{
			"Who last changed export/csv.go?", "Which developer most recently edited csv.go?", "export/csv.go: who touched it last?",
			"Name the author of the latest change to export/csv.go.", "By whom was export/csv.go last modified?",
			"Who made the most recent commit to csv.go?", "Whose change to export/csv.go is the newest?",
			"Who was the last person to update `export/csv.go`?", "When was export/csv.go last touched?",
			"Tell me the last committer of export/csv.go", "who modified export/csv.go", "Who has worked on csv.go most recently?"}},
		{Shape: "last_change", Holds: []string{"Dmitri Volkov", day(55)}, Wordings: []string{
			"Who last changed ledger/journal.go?", "who last changed ledger/entry.go", "Last person to touch journal.go?",
			"Who is behind the latest edit of ledger/journal.go?", "Who did the last update of the file journal.go?"}},
		{Shape: "last_change", Holds: []string{"Ada Okafor", day(120)}, Wordings: []string{
			"Who last changed README.md?", "Who edited the README.md last?", "who was the last one to alter README.md"}},
		{Shape: "last_change", Holds: []string{"Ben Tran", day(75)}, Wordings: []string{
			"Who last changed the dark mode feature?", "Who last changed dark mode?", "Who worked on \"dark mode\" last?",
			"Which engineer touched the dark mode most recently?", "Who made the latest change to the feature dark mode?"}},
		{Shape: "last_change", Holds: []string{"Ben Tran", day(30)}, Wordings: []string{
			"Who last changed the nightly export?", "Who most recently worked on the feature \"nightly export\"?"}},
		{Shape: "first_added", Holds: []string{day(3), "Ben Tran", "v0.1.0"}, Wordings: []string{
			"When was money/convert.go added and in which release?", "When was the file money/convert.go added, and which release first had it?",
			"In which release did money/convert.go first appear?", "Since which version do we have money/convert.go?",
			"On what date did convert.go enter the repository, and with which tag did it ship?", "When did convert.go come into being?",
			"Who added money/convert.go?", "Who created convert.go?", "What release introduced convert.go?", "Who first wrote money/convert.go?",
			"Which tagged version first included money/convert.go?", "When was convert.go created?", "What was the first release with convert.go?"}},
		{Shape: "first_added", Holds: []string{day(0), "Ada Okafor", "v0.1.0"}, Wordings: []string{
			"When was ledger/journal.go added?", "When did ledger/entry.go first appear?", "who created the file ledger/journal.go originally?"}},
		{Shape: "first_added", Holds: []string{day(61), "v1.0.0"}, Wordings: []string{
			"When was the feature \"fiscal calendars\" added?", "When were fiscal calendars introduced?", "Which release brought fiscal calendars?",
			"When did we get support for fiscal calendars?", "Since when do we support fiscal calendars?", "when did 'fiscal calendars' land?"}},
		{Shape: "first_added", Holds: []string{day(101), "Dmitri Volkov", "v1.1.0"}, Wordings: []string{
			"When was rate limiting added?", "Who introduced rate limiting to the public API?", "When was \"rate limiting\" first introduced, and in which version?",
			"In which release did rate limiting ship?", "Who implemented rate limiting?"}},
		{Shape: "first_added", Holds: []string{day(15), "v0.2.0"}, Wordings: []string{
			"When was the nightly export feature added?", "When was nightly export introduced?"}},
		{Shape: "removed", Holds: []string{day(90), "Chloé Dubois"}, Wordings: []string{
			"When was export/import.go removed?", "Who deleted export/import.go?"}},
		{Shape: "count_commits", Holds: []string{"3"}, Wordings: []string{
			"How many commits changed ledger/post.go?", "How often was ledger/post.go changed?", "How many times has post.go been modified?",
			"What is the number of commits that touch ledger/post.go?"}},
		{Shape: "count_commits", Holds: []string{"4"}, Wordings: []string{
			"How many commits did Ada Okafor make?", "How many commits are by Ada?", "Number of commits authored by Ada Okafor"}},
		{Shape: "count_commits", Holds: []string{"13"}, Wordings: []string{"How many commits are there?", "How many commits are in the repository?"}},
		{Shape: "history", Holds: []string{"Chloé Dubois", "Ben Tran", day(9), day(3)}, Wordings: []string{
			"What is the history of money/convert.go?", "List the commits that changed money/convert.go", "Show the timeline of convert.go",
			"What happened to money/convert.go?", "Which commits touched convert.go?"}},
		{Shape: "contributors", Holds: []string{"Ben Tran", "Chloé Dubois"}, Wordings: []string{
			"Who worked on money/convert.go?", "Which people contributed to convert.go?"}},
		{Shape: "person_did", Holds: []string{"Add rate limiting to the public API", day(101)}, Wordings: []string{
			"What did Dmitri Volkov do?", "What has Dmitri worked on?", "Which commits did Dmitri Volkov make in April 2025?"}},
		{Shape: "release", Holds: []string{day(61)}, Wordings: []string{"When was v1.0.0 released?", "When was release v1.0.0 made?", "What is the date of release v1.0.0?"}},
		{Shape: "release", Holds: []string{"v1.1.0"}, Wordings: []string{"What is the latest release?", "Which version was released last?", "What's the most recent version?"}},
		{Shape: "how_fresh", Wordings: []string{"How fresh is the source docs?", "How up to date is the data?", "When was docs last synced?"}},
	}
}

func worldFiles() []File {
	return []File{
		{"ops/backups.md", "# Backups\n\nThe ledger database is backed up every six hours. Copies are kept in the Lisbon vault for 35 days.\n\n## Restoring\n\nTo restore, stop the posting service and run the restore tool with the newest copy. Marta Lindqvist approves every restore.\n"},
		{"ops/audit-store.md", "# Audit store\n\nThe audit store is backed up every night at 02:30. Its copies are kept for seven years in Oslo.\n"},
		{"ops/oncall.md", "# On call\n\nThe on-call phone changes hands every Tuesday. Whoever is on call answers within ten minutes. Escalations go to the duty manager.\n"},
		{"ops/alerts.md", "# Alerts\n\nAn alert is raised when the posting queue holds more than 5,000 entries. A second alert is raised when the export fails twice in a row.\n"},
		{"dev/limits.md", "# Limits\n\n## Public API\n\nThe public API allows 300 requests a minute for each key. Requests above the limit get status 429.\n\n## Internal API\n\nThe internal API allows 9,000 requests a minute.\n\n## Uploads\n\nAn upload is at most 25 MB. Larger files go through the batch gateway.\n"},
		{"dev/signing-keys.md", "# Rotating the signing keys\n\nSigning keys are rotated twice a year by the security team. A retired key stays valid for 14 days. The key ceremony takes place in room Kestrel.\n"},
		{"dev/style.md", "# Coding style\n\nCode is formatted before it is committed. A function has at most 70 lines. Names carry their units.\n"},
		{"dev/posting.md", "# Posting rules\n\nEvery posting has two sides that sum to zero. A posting is immutable once its period is closed. Corrections are made by a reversing entry.\n"},
		{"team/people.md", "# People\n\nThe payments team is led by Rosa Delgado. The reporting team is led by Henrik Aalto. Both teams meet on Mondays.\n"},
		{"team/vendors.md", "# Vendors\n\nExchange rates come from Halcyon Data. The contract with Halcyon Data ends on 31 March 2027. Paper invoices are printed by Borealis Press.\n"},
		{"product/fiscal.md", "# Fiscal calendars\n\nA fiscal calendar divides a year into periods of four or five weeks. The calendar of the Nordic entities begins in September.\n"},
		{"product/export.md", "# Exports\n\nThe nightly export writes one file for each entity. Exports are encrypted with the customer's own key. The export runs on the machine heron-3.\n"},
	}
}

func textQuestions() []Asked {
	q := func(fact, file string, wordings ...string) Asked {
		return Asked{Cites: []string{fact, file}, Wordings: wordings}
	}
	return []Asked{
		q("six hours", "ops/backups.md", "How often is the ledger database backed up?", "What is the backup interval of the ledger database?", "How frequently do we take copies of the ledger database?"),
		q("35 days", "ops/backups.md", "How long are copies of the ledger database kept?", "For how many days do we retain ledger backups?", "What is the retention time of the ledger copies in the Lisbon vault?"),
		q("02:30", "ops/audit-store.md", "When is the audit store backed up?", "At what time does the audit store backup run?", "What time of night is the audit store copied?"),
		q("Marta Lindqvist", "ops/backups.md", "Who approves a restore?", "Who has to approve restores?", "Whose approval does a restore need?"),
		q("Tuesday", "ops/oncall.md", "On which day does the on-call phone change hands?", "When is the on-call phone handed over?", "Which weekday does the on-call phone switch to somebody else?"),
		q("ten minutes", "ops/oncall.md", "How quickly must the person on call answer?", "How fast does the on-call engineer have to answer?", "Within how many minutes does whoever is on call answer?"),
		q("5,000", "ops/alerts.md", "How many entries may the posting queue hold before an alert is raised?", "At what size of the posting queue is an alert raised?", "What is the alert threshold of the posting queue?"),
		q("300 requests", "dev/limits.md", "How many requests a minute does the public API allow?", "What is the request limit of the public API?", "What is the maximum number of requests per minute on the public API?"),
		q("25 MB", "dev/limits.md", "How large may an upload be?", "What is the maximum size of an upload?", "What is the size limit for uploads?"),
		q("14 days", "dev/signing-keys.md", "How long does a retired signing key stay valid?", "For how long is a retired key still accepted?", "After how many days does a retired key become invalid?"),
		q("Kestrel", "dev/signing-keys.md", "Where does the key ceremony take place?", "In which room is the key ceremony held?", "What is the location of the key ceremony?"),
		q("70 lines", "dev/style.md", "How many lines may a function have?", "What is the maximum length of a function?", "How long may a function be at most?"),
		q("Rosa Delgado", "team/people.md", "Who leads the payments team?", "Who is the head of the payments team?", "Who is in charge of the payments team?"),
		q("Henrik Aalto", "team/people.md", "Who is the lead of the reporting team?", "By whom is the reporting team led?", "Who heads the reporting team?"),
		q("Halcyon Data", "team/vendors.md", "Where do exchange rates come from?", "Who supplies the exchange rates?", "Which vendor provides our exchange rates?"),
		q("31 March 2027", "team/vendors.md", "When does the contract with Halcyon Data end?", "Until when does the Halcyon Data contract run?", "What is the end date of the contract with Halcyon Data?"),
		q("Borealis Press", "team/vendors.md", "Who prints the paper invoices?", "Which company prints paper invoices?", "By whom are paper invoices printed?"),
		q("September", "product/fiscal.md", "In which month does the calendar of the Nordic entities begin?", "When does the Nordic fiscal calendar start?", "What month is the beginning of the Nordic entities' calendar?"),
		q("heron-3", "product/export.md", "On which machine does the export run?", "Where does the nightly export run?", "Which host runs the export?"),
		q("reversing entry", "dev/posting.md", "How are corrections made?", "How is a posting corrected?", "What do I do to correct a posting?"),
		{Shape: "which_document", Cites: []string{"dev/signing-keys.md"}, Wordings: []string{
			"Which document explains how to rotate the signing keys?", "Where is the rotation of signing keys described?", "What should I read to learn about rotating signing keys?",
			"Where can I read about signing keys?", "Which page covers signing key rotation?", "Is there a guide about rotating the signing keys?", "Which doc describes signing keys?"}},
		{Shape: "which_document", Cites: []string{"dev/posting.md"}, Wordings: []string{
			"Which document explains posting rules?", "Where are the posting rules documented?", "In which document do I find the rules for postings?", "What doc should I consult on posting rules?",
			"Point me to the document about posting rules", "Which file documents the posting rules?"}},
		{Shape: "which_document", Cites: []string{"ops/backups.md"}, Wordings: []string{
			"Which document explains restoring?", "Where is it documented how to restore the ledger?", "Which runbook tells me how to restore?"}},
		{Shape: "which_document", Cites: []string{"product/fiscal.md"}, Wordings: []string{
			"Which document explains fiscal calendars?", "Where are fiscal calendars explained?", "Which article discusses fiscal calendars?"}},
	}
}

func noQuestions() []Asked {
	var out []Asked
	for _, q := range []string{
		"Who last changed export/xml.go?", "When was billing/tax.go added?", "In which release was api/graphql.go added?",
		"When was the feature \"single sign-on\" added?", "When was v9.9.9 released?", "Who last changed the holographic display?",
		"Who is the president of France?", "What is the capital of Mongolia?", "How tall is the Eiffel tower?",
		"How long does the audit store's signing key stay valid?", "Who leads the security team?", "Who approves a deployment?",
		"How many requests a minute does the batch gateway allow?", "When does the contract with Borealis Press end?",
		"What does the contract with Halcyon Data cost?", "Who is the deputy of Rosa Delgado?", "How many people are in the payments team?",
		"What is the phone number of the duty manager?", "What is the size of the audit store?", "How often is the posting queue backed up?",
		"Which machine runs the posting service?", "What is the budget of the reporting team?", "Which document explains zebra migration patterns?",
		"Where is the disaster recovery site documented?", "What is the password of heron-3?", "When does the key ceremony begin?",
	} {
		out = append(out, Asked{None: true, Wordings: []string{q}})
	}
	return out
}

// String names a question in a test's log.
func (a Asked) String() string { return fmt.Sprintf("%.60s", a.Wordings[0]) }
