package measure

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Facts is a seeded set of documents with one fact a sentence, in which every
// other document holds the same kind of fact about something else, and of
// questions about them in several wordings. Coefficients are fitted on it; it
// shares no sentence with World.
type Facts struct {
	Files     []File
	Questions []FactQuestion
}

// FactQuestion asks for one fact.
type FactQuestion struct {
	Text     string
	File     string // "" = no document says it
	Sentence string // that says it
}

// attribute is a kind of fact: how documents say it and how people ask for it.
// %E is the thing, %V the value.
type attribute struct {
	says  []string
	asks  []string
	value func(*rand.Rand) string
}

func oneOf(list ...string) func(*rand.Rand) string {
	return func(r *rand.Rand) string { return list[r.IntN(len(list))] }
}

func amount(unit string, low, high int) func(*rand.Rand) string {
	return func(r *rand.Rand) string { return fmt.Sprintf("%d %s", low+r.IntN(high-low), unit) }
}

func person(r *rand.Rand) string {
	return oneOf("Ines", "Tomasz", "Yuki", "Amara", "Lars", "Priya", "Elif", "Mateo", "Noor", "Silje")(r) + " " +
		oneOf("Farouk", "Nowak", "Tanaka", "Adeyemi", "Holm", "Raman", "Demir", "Vargas", "Haddad", "Berg")(r)
}

func attributes() []attribute {
	return []attribute{
		{[]string{"%E keeps its logs for %V.", "Logs of %E are deleted after %V."}, []string{"How long does %E keep logs?", "After what time are the logs of %E removed?", "What is the log retention of %E?"}, amount("days", 5, 400)},
		{[]string{"%E is owned by %V.", "%V is responsible for %E."}, []string{"Who owns %E?", "Who is responsible for %E?", "Who is the owner of %E?"}, person},
		{[]string{"%E listens on port %V.", "The port of %E is %V."}, []string{"On which port does %E listen?", "What port does %E use?", "Which port number belongs to %E?"}, func(r *rand.Rand) string { return fmt.Sprint(1024 + r.IntN(60000)) }},
		{[]string{"%E is restarted every %V.", "Every %V, %E restarts."}, []string{"When is %E restarted?", "On what day does %E restart?", "Which weekday does %E get restarted?"}, oneOf("Monday", "Wednesday", "Friday", "Sunday")},
		{[]string{"%E runs in %V.", "The home of %E is the site in %V."}, []string{"Where does %E run?", "In which city is %E located?", "What is the location of %E?"}, oneOf("Zurich", "Tallinn", "Porto", "Gdansk", "Nantes", "Bergen")},
		{[]string{"The default timeout of %E is %V.", "%E gives up after %V by default."}, []string{"What is the default timeout of %E?", "After how many seconds does %E give up?", "How long does %E wait by default?"}, amount("seconds", 2, 90)},
		{[]string{"%E accepts messages of up to %V.", "The largest message that %E takes has %V."}, []string{"How large may a message to %E be?", "What is the maximum message size of %E?", "What size of message does %E accept at most?"}, amount("MB", 2, 300)},
		{[]string{"%E is written in %V.", "The language of %E is %V."}, []string{"In which language is %E written?", "What programming language does %E use?", "What is %E written in?"}, oneOf("Erlang", "OCaml", "Rust", "Kotlin", "Haskell", "Elixir")},
		{[]string{"%E costs %V a month.", "We pay %V a month for %E."}, []string{"How much does %E cost?", "What do we pay for %E each month?", "What is the monthly cost of %E?"}, func(r *rand.Rand) string { return fmt.Sprintf("%d euros", 100+r.IntN(9000)) }},
		{[]string{"%E retries a failed job %V.", "A failed job is tried %V by %E."}, []string{"How often does %E retry a failed job?", "How many retries does %E make?", "What is the number of attempts of %E for a job that failed?"}, amount("times", 2, 20)},
		{[]string{"Changes to %E are approved by %V.", "%V signs off every change to %E."}, []string{"Who approves changes to %E?", "Whose approval does a change to %E need?", "Who signs off on changes to %E?"}, person},
		{[]string{"%E replaced %V.", "%E is the successor of %V."}, []string{"What did %E replace?", "Which system came before %E?", "What is the predecessor of %E?"}, oneOf("Oldmill", "Ferrotype", "Bluebook", "Catapult", "Minotaur")},
		{[]string{"%E stores its data in %V.", "The data of %E lives in %V."}, []string{"Where does %E store its data?", "Which database does %E use?", "In what does %E keep its data?"}, oneOf("PostgreSQL", "Cassandra", "MariaDB", "FoundationDB", "SQLite")},
		{[]string{"%E is available %V of the time.", "The availability target of %E is %V."}, []string{"What is the availability of %E?", "What availability does %E promise?", "What percentage of the time is %E available?"}, func(r *rand.Rand) string { return fmt.Sprintf("99.%d%%", 10+r.IntN(89)) }},
		{[]string{"%E went live in %V.", "The launch of %E was in %V."}, []string{"When did %E go live?", "In which year was %E launched?", "When was the launch of %E?"}, func(r *rand.Rand) string { return fmt.Sprint(2004 + r.IntN(20)) }},
		{[]string{"%E handles %V a second.", "The load of %E is %V a second."}, []string{"How many requests does %E handle?", "What load does %E carry?", "How much traffic does %E see each second?"}, amount("requests", 20, 9000)},
		{[]string{"Alerts of %E go to %V.", "%V receives the alerts of %E."}, []string{"Who gets the alerts of %E?", "Where do alerts of %E go?", "Who is alerted when %E has trouble?"}, oneOf("the platform desk", "the night shift", "team Juniper", "team Cobalt")},
		{[]string{"%E is backed up %V.", "Backups of %E are made %V."}, []string{"How often is %E backed up?", "When are backups of %E made?", "What is the backup schedule of %E?"}, oneOf("every hour", "every night", "every four hours", "twice a week")},
		{[]string{"The licence of %E expires on %V.", "%E is licensed until %V."}, []string{"When does the licence of %E expire?", "Until when is %E licensed?", "What is the expiry date of the licence of %E?"}, func(r *rand.Rand) string {
			return fmt.Sprintf("%d %s 20%d", 1+r.IntN(28), oneOf("May", "June", "October", "January")(r), 26+r.IntN(8))
		}},
		{[]string{"%E has %V.", "There are %V in %E."}, []string{"How many replicas does %E have?", "What is the number of replicas of %E?", "How many copies of %E are running?"}, amount("replicas", 2, 30)},
	}
}

var fillers = []string{
	"This page is kept short on purpose.", "Questions are welcome at any time.", "Earlier notes were merged into this one.",
	"The details below were checked by hand.", "Nothing here replaces common sense.", "A diagram hangs in the kitchen.",
	"Whoever changes something writes it down here.", "Older systems followed other rules.",
}

// NewFacts makes a set from a seed.
func NewFacts(seed uint64) Facts {
	r := rand.New(rand.NewPCG(seed, 7))
	attrs := attributes()
	var f Facts
	names := things(r, 36)
	for i, name := range names[:20] {
		f.document(r, i, name, attrs)
	}
	for i := range 4 {
		f.overview(r, i, names[20+4*i:24+4*i], attrs)
	}
	return f
}

// overview writes a document about several things: its title names none of them.
func (f *Facts) overview(r *rand.Rand, n int, names []string, attrs []attribute) {
	path := fmt.Sprintf("facts/overview-%d.md", n)
	var body strings.Builder
	fmt.Fprintf(&body, "# %s\n\n", []string{"Overview", "Catalogue", "Inventory", "What we run"}[n%4])
	type line struct{ thing, attr int }
	var lines []line
	for t := range names {
		order := r.Perm(len(attrs))
		for _, k := range order[:7] {
			lines = append(lines, line{t, k})
		}
		for _, k := range order[7:11] {
			f.ask(r, attrs[k], names[t], "", "")
		}
	}
	r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	for i, l := range lines {
		s := strings.ReplaceAll(attrs[l.attr].says[r.IntN(2)], "%E", "the "+names[l.thing])
		s = strings.ReplaceAll(s, "%V", attrs[l.attr].value(r))
		s = strings.ToUpper(s[:1]) + s[1:]
		if i%5 == 4 {
			body.WriteString("\n\n" + fillers[r.IntN(len(fillers))] + " ")
		}
		body.WriteString(s + " ")
		f.ask(r, attrs[l.attr], names[l.thing], path, s)
	}
	f.Files = append(f.Files, File{path, body.String()})
}

func things(r *rand.Rand, n int) []string {
	first := []string{"amber", "birch", "cedar", "delta", "ember", "flint", "garnet", "hazel", "indigo", "jade", "krill", "lotus"}
	kind := []string{"gateway", "scheduler", "ledger", "index", "broker", "cache", "portal", "archive"}
	seen := map[string]bool{}
	var out []string
	for len(out) < n {
		s := first[r.IntN(len(first))] + " " + kind[r.IntN(len(kind))]
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// document writes a document about one thing: most kinds of fact are stated, the
// others are asked for in vain.
func (f *Facts) document(r *rand.Rand, n int, thing string, attrs []attribute) {
	path := fmt.Sprintf("facts/%02d.md", n)
	var body strings.Builder
	fmt.Fprintf(&body, "# %s\n\n", title(thing, r))
	order := r.Perm(len(attrs))
	for i, k := range order[:9] {
		if i%3 == 2 {
			body.WriteString(fillers[r.IntN(len(fillers))] + " ")
		}
		if i%4 == 3 {
			fmt.Fprintf(&body, "\n\n## %s\n\n", []string{"More", "Notes", "Operation", "Background"}[r.IntN(4)])
		}
		e := "The " + thing
		if i%3 == 1 {
			e = "It"
		}
		says := attrs[k].says[r.IntN(2)]
		if e == "It" && !strings.HasPrefix(says, "%E") {
			says = attrs[k].says[0]
		}
		if !strings.HasPrefix(says, "%E") {
			e = "the " + thing
		}
		s := strings.ReplaceAll(strings.ReplaceAll(says, "%E", e), "%V", attrs[k].value(r))
		s = strings.ToUpper(s[:1]) + s[1:]
		body.WriteString(s + " ")
		f.ask(r, attrs[k], thing, path, s)
	}
	for _, k := range order[9:14] {
		f.ask(r, attrs[k], thing, "", "")
	}
	f.Files = append(f.Files, File{path, body.String()})
}

func title(thing string, r *rand.Rand) string {
	if r.IntN(3) == 0 {
		return "About the " + thing
	}
	return strings.ToUpper(thing[:1]) + thing[1:]
}

func (f *Facts) ask(r *rand.Rand, a attribute, thing, path, sentence string) {
	q := strings.ReplaceAll(a.asks[r.IntN(len(a.asks))], "%E", "the "+thing)
	f.Questions = append(f.Questions, FactQuestion{q, path, sentence})
}
