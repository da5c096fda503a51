package world

import (
	"fmt"
	"path/filepath"
	"strings"
)

// document is a file of the documentation: sections of filler around facts.
type document struct {
	path     string
	title    string
	topic    string // what only this document explains
	sections []section
}

type section struct {
	heading   string
	sentences []string
}

// kind is a kind of fact that documents state about components, with the
// wordings of its sentence and of its question. Each component has a document
// of its own, so the other components' facts of the same kind are its decoys.
type kind struct {
	sentence  [2]string // %s = component, %s = value
	questions [3]string // %s = component
	value     func(*World) string
}

var kinds = []kind{
	{
		[2]string{"The %s listens on port %s.", "Clients reach the %s through port %s."},
		[3]string{"Which port does the %s listen on?", "On what port can the %s be reached?", "What is the port number of the %s?"},
		func(w *World) string { return fmt.Sprint(2000 + w.rng.IntN(60000)) },
	},
	{
		[2]string{"Backups of the %s are kept for %s days.", "We keep every backup of the %s for %s days."},
		[3]string{"How long are backups of the %s kept?", "For how many days do we keep the backups of the %s?", "What is the retention of the %s backups?"},
		func(w *World) string { return fmt.Sprint(11 + w.rng.IntN(380)) },
	},
	{
		[2]string{"The %s is operated by %s.", "Day-to-day operation of the %s lies with %s."},
		[3]string{"Who operates the %s?", "Who is in charge of operating the %s?", "Which person runs the %s day to day?"},
		func(w *World) string { return w.People[w.rng.IntN(len(w.People))].Name },
	},
	{
		[2]string{"The %s went into production on %s.", "Production use of the %s began on %s."},
		[3]string{"When did the %s go into production?", "Since what date has the %s been in production?", "On which day did production use of the %s begin?"},
		func(w *World) string {
			return fmt.Sprintf("%d %s %d", 1+w.rng.IntN(28), w.pick([]string{"January", "March", "April", "June", "July", "September", "October", "December"}), 2015+w.rng.IntN(9))
		},
	},
	{
		[2]string{"The %s stores its data in the %s database.", "All data of the %s lives in the %s database."},
		[3]string{"Which database does the %s store its data in?", "Where does the %s keep its data?", "What database holds the data of the %s?"},
		func(w *World) string { return w.words.name() },
	},
	{
		[2]string{"The request timeout of the %s is %s milliseconds.", "A request to the %s is given up after a timeout of %s milliseconds."},
		[3]string{"What is the request timeout of the %s?", "After how many milliseconds does a request to the %s time out?", "How long may a request to the %s take before the timeout?"},
		func(w *World) string { return fmt.Sprint(120 + 10*w.rng.IntN(900)) },
	},
	{
		[2]string{"Alerts of the %s are sent to the %s channel.", "Whatever alerts the %s raises go to the %s channel."},
		[3]string{"Where are alerts of the %s sent?", "Which channel receives the alerts of the %s?", "To what channel do alerts from the %s go?"},
		func(w *World) string { return "#" + strings.ToLower(w.words.name()) },
	},
}

// fact is a fact as a document states it.
type fact struct {
	component, value, sentence string
	kind                       int
}

// facts gives each component four of the kinds; the rest of the kinds are what
// the documents do not say about it.
func (w *World) facts() (stated []fact, missing []fact) {
	for _, c := range w.components {
		order := w.rng.Perm(len(kinds))
		for i, k := range order {
			f := fact{component: c, kind: k, value: kinds[k].value(w)}
			if i < 4 {
				f.sentence = fmt.Sprintf(kinds[k].sentence[w.rng.IntN(2)], c, f.value)
				stated = append(stated, f)
			} else {
				missing = append(missing, f)
			}
		}
	}
	return stated, missing
}

var filler = []string{
	"Changes are announced a week ahead.",
	"Most incidents start with a full disk.",
	"The dashboards show the last thirty days.",
	"Nothing here needs a network route to the outside.",
	"Read the release notes before an upgrade.",
	"The team reviews this page every quarter.",
	"When in doubt, ask before you restart anything.",
	"Logs rotate at midnight; old ones are compressed.",
	"A short outage is better than a wrong answer.",
	"The tests cover the paths that broke before.",
	"Every setting has a default that works.",
	"New colleagues start with the tutorial.",
}

// topics are procedures, each explained by one document alone.
var topics = []string{
	"rotating the signing keys", "draining a rack", "restoring a single table", "onboarding a new tenant", "replacing a failed disk",
	"renewing certificates", "rehearsing a disaster", "tuning the connection pool", "measuring query latency", "migrating old invoices",
	"splitting a hot partition", "archiving closed accounts", "reading a flame graph", "labelling confidential records", "planning capacity for year end",
	"reviewing firewall requests", "escalating a security incident", "writing a post-mortem", "importing currency rates", "reconciling failed payments",
	"auditing privileged sessions", "retiring a service account", "testing the emergency generator", "publishing the on-call roster",
}

func (w *World) makeDocuments() error {
	stated, missing := w.facts()
	w.componentDocuments(stated)
	w.topicDocuments()
	for _, d := range w.docs {
		if err := write(filepath.Join(w.Documents, d.path), d.render()); err != nil {
			return err
		}
	}
	w.stated = stated
	w.askFacts(stated)
	w.askMissing(missing)
	return nil
}

func (w *World) componentDocuments(stated []fact) {
	for _, c := range w.components {
		d := &document{path: "services/" + strings.ReplaceAll(c, " ", "-") + ".md", title: "The " + c}
		heads := []string{"Overview", "Operation", "Configuration", "History"}
		for i, h := range heads {
			s := section{heading: h, sentences: w.filler(2)}
			if fs := factsOf(stated, c); i < len(fs) {
				s.sentences = append(s.sentences, fs[i].sentence)
			}
			s.sentences = append(s.sentences, w.filler(1)...)
			d.sections = append(d.sections, s)
		}
		w.docs = append(w.docs, d)
	}
}

func factsOf(fs []fact, component string) (out []fact) {
	for _, f := range fs {
		if f.component == component {
			out = append(out, f)
		}
	}
	return out
}

func (w *World) topicDocuments() {
	folders := []string{"runbooks", "handbook", "security"}
	for i, t := range topics {
		slug := strings.ReplaceAll(t, " ", "-")
		d := &document{path: folders[i%len(folders)] + "/" + slug, title: strings.ToUpper(t[:1]) + t[1:], topic: t}
		d.path += []string{".md", ".html", ".txt"}[i%3]
		other := w.pick(w.components)
		d.sections = []section{
			{"Purpose", append(w.filler(1), "This page explains "+t+" step by step.", "It was written after trouble with the "+other+".")},
			{"Steps", append(w.filler(2), "Begin in the morning, when "+w.people()+" are both in the house.")},
			{"Afterwards", w.filler(2)},
		}
		w.docs = append(w.docs, d)
	}
}

func (w *World) people() string {
	a, b := w.rng.IntN(len(w.People)), w.rng.IntN(len(w.People)-1)
	if b >= a {
		b++
	}
	return w.People[a].Name + " and " + w.People[b].Name
}

func (w *World) filler(n int) (out []string) {
	for _, i := range w.rng.Perm(len(filler))[:n] {
		out = append(out, filler[i])
	}
	return out
}

func (d *document) render() string {
	switch filepath.Ext(d.path) {
	case ".html":
		var b strings.Builder
		fmt.Fprintf(&b, "<!doctype html>\n<html lang=\"en\"><head><title>%s</title></head><body>\n<h1>%s</h1>\n", d.title, d.title)
		for _, s := range d.sections {
			fmt.Fprintf(&b, "<h2 id=\"%s\">%s</h2>\n<p>%s</p>\n", strings.ToLower(s.heading), s.heading, strings.Join(s.sentences, " "))
		}
		return b.String() + "</body></html>\n"
	case ".txt":
		var b strings.Builder
		b.WriteString(d.title + "\n" + strings.Repeat("=", len(d.title)) + "\n\n")
		for _, s := range d.sections {
			b.WriteString(s.heading + "\n" + strings.Repeat("-", len(s.heading)) + "\n\n" + strings.Join(s.sentences, " ") + "\n\n")
		}
		return b.String()
	}
	var b strings.Builder
	b.WriteString("# " + d.title + "\n\n")
	for _, s := range d.sections {
		b.WriteString("## " + s.heading + "\n\n" + strings.Join(s.sentences, " ") + "\n\n")
	}
	return b.String()
}
