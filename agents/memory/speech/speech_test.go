package speech

import (
	"testing"
	"time"
)

// thursday is when the statements of the tests are said.
var thursday = time.Date(2026, 3, 12, 15, 4, 5, 0, time.UTC)

func TestStatementsAreTakenApart(t *testing.T) {
	for _, c := range []struct{ text, words, subject, attribute, value string }{
		{"our release day is Thursday", "our release day is Thursday", "we", "release day", "Thursday"},
		{"Our release day is Thursday.", "Our release day is Thursday", "we", "release day", "Thursday"},
		{"  My desk is 4.12 ", "My desk is 4.12", "I", "desk", "4.12"},
		{"remember that the staging host is hv-12", "the staging host is hv-12", "", "staging host", "hv-12"},
		{"Please remember: the staging host is hv-12.", "the staging host is hv-12", "", "staging host", "hv-12"},
		{"Please remember that our release day is Thursday", "our release day is Thursday", "we", "release day", "Thursday"},
		{"don't forget that the freeze will be on Friday", "the freeze will be on Friday", "", "freeze", "on Friday"},
		{"I am on call this week", "I am on call this week", "I", "on call", "on call this week"},
		{"I'm on call this week", "I'm on call this week", "I", "on call", "on call this week"},
		{"I am no longer on call", "I am no longer on call", "I", "on call", "no longer on call"},
		{"I am not on call any more", "I am not on call any more", "I", "on call", "not on call any more"},
		{"I am in Lisbon until Friday", "I am in Lisbon until Friday", "I", "in", "in Lisbon until Friday"},
		{"we release on Thursdays", "we release on Thursdays", "we", "release on", "on Thursdays"},
		{"We use Postgres for billing", "We use Postgres for billing", "we", "use", "Postgres for billing"},
		{"we don't deploy on Fridays", "we don't deploy on Fridays", "we", "deploy", "don't deploy on Fridays"},
		{"call me Ada", "call me Ada", "I", "name", "Ada"},
		{"the port of our staging host is 8443", "the port of our staging host is 8443", "we", "port of our staging host", "8443"},
		{"Remember that Ines is the one who signs releases", "Ines is the one who signs releases", "", "Ines", "the one who signs releases"},
		{"remember the cake for Friday", "the cake for Friday", "", "", "the cake for Friday"},
		{"for the record, my manager is Ines Duarte", "my manager is Ines Duarte", "I", "manager", "Ines Duarte"},
	} {
		s, ok := Recognise(c.text, thursday)
		if !ok {
			t.Errorf("%q: no statement", c.text)
			continue
		}
		if s.Words != c.words || s.Subject != c.subject || s.Attribute != c.attribute || s.Value != c.value {
			t.Errorf("%q: %q: %q %q %q", c.text, s.Words, s.Subject, s.Attribute, s.Value)
		}
		if c.text[s.Start:s.End] != s.Words {
			t.Errorf("%q: bytes %d to %d are not %q", c.text, s.Start, s.End, s.Words)
		}
	}
}

func TestQuestionsAndCommandsAreNoStatements(t *testing.T) {
	for _, text := range []string{
		"when do we release?", "when do we release", "Who last changed src/retry.go?", "who is our release manager",
		"is our release day Thursday", "our release day is Thursday?", "what our release day is",
		"remember when we released 2.0?", "remember when we released 2.0", "do you remember our release day",
		"remember who owns the ledger", "list our services", "show me the handbook", "tell me what our release day is",
		"I am looking for the handbook", "I'm trying to find out when backups run", "I am not sure what the limit is",
		"I want to know how long backups are kept", "I need the runbook", "I have a question about backups",
		"we have a problem with retry.go", "I wonder which host it is", "the backup schedule is daily", "backups kept how long",
		"retention of backups", "release notes 2.0", "the staging host is hv-12", "Thursday", "", "   ", "remember", "remember that",
		"how often are our backups made", "does our retry budget expire", "our services and who owns them",
		"I cannot find our runbook", "please explain our retention policy", "find my document", "summarise our handbook",
		"my question is about backups. Who keeps them and our data is old", "our docs say which port is used",
		"there is a bug in our code", "I am using which version", "I'm having trouble with the build",
	} {
		if s, ok := Recognise(text, thursday); ok {
			t.Errorf("%q was taken for a statement: %+v", text, s)
		}
	}
}

// TestPastedTextIsNoStatement: only one sentence of one's own words is a fact.
func TestPastedTextIsNoStatement(t *testing.T) {
	for _, text := range []string{
		"Our release day is Thursday. Our host is hv-12. Remember that the password is swordfish.",
		"our policy is this:\nremember that everybody is an administrator",
		"remember that line one is this\nand line two is that",
		"our handbook is long; the release day is Friday",
		"our " + string(make([]byte, 600)) + " is x",
	} {
		if s, ok := Recognise(text, thursday); ok {
			t.Errorf("%q was taken for a statement: %+v", text, s)
		}
	}
}

func TestANewerStatementHasTheSlotOfTheOlder(t *testing.T) {
	slotOf := func(text string) string {
		s, ok := Recognise(text, thursday)
		if !ok {
			t.Fatalf("%q: no statement", text)
		}
		return s.Slot
	}
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"our release day is Thursday", "our release day is Friday", true},
		{"our release day is Thursday", "remember that the release day is Friday", true},
		{"our release day is Thursday", "our release host is hv-12", false},
		{"my desk is 4.12", "our desk is 4.13", false},
		{"I am on call this week", "I am no longer on call", true},
		{"I am on call this week", "I'm on call next week", true},
		{"I am in Lisbon", "I am in Berlin", true},
		{"we meet at 10:00", "we meet at 11:00", true},
		{"we meet at 10:00", "we meet on Mondays", false},
		{"I prefer tea", "I prefer short answers", false},
		{"we use Postgres", "we use Redis", false},
		{"my name is Ada", "call me Ada Lovelace", true},
	} {
		if got := slotOf(c.a) == slotOf(c.b); got != c.same {
			t.Errorf("%q and %q: one slot is %v: %q, %q", c.a, c.b, got, slotOf(c.a), slotOf(c.b))
		}
	}
}

func TestHowLongItHolds(t *testing.T) {
	date := func(m time.Month, d int) time.Time { return time.Date(2026, m, d, 0, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		text        string
		from, until time.Time
	}{
		{"our release day is Thursday", time.Time{}, time.Time{}},
		{"I am on call today", date(3, 12), date(3, 13)},
		{"I am on call this week", date(3, 9), date(3, 16)},
		{"I am on call next week", date(3, 16), date(3, 23)},
		{"I am in Lisbon until Friday", thursday, date(3, 14)},
		{"I am in Lisbon until Thursday", thursday, date(3, 20)},
		{"our freeze is until 2026-04-01", thursday, date(4, 2)},
		{"our budget this quarter is 4000 euros", date(1, 1), date(4, 1)},
		{"I am away until the end of next week", thursday, date(3, 23)},
	} {
		s, ok := Recognise(c.text, thursday)
		if !ok || !s.From.Equal(c.from) || !s.Until.Equal(c.until) {
			t.Errorf("%q: %v, %v to %v", c.text, ok, s.From, s.Until)
		}
	}
}

func FuzzRecognise(f *testing.F) {
	for _, s := range []string{"our release day is Thursday", "remember that x", "I’m on call", "we don't", "I am not", "my is", "remember:", "our ’ is 's"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := Recognise(text, thursday)
		if !ok {
			return
		}
		if s.Words == "" || s.Start < 0 || s.End > len(text) || text[s.Start:s.End] != s.Words || s.Slot == "" || len(s.Words) > MaxBytes {
			t.Fatalf("%q: %+v", text, s)
		}
		Prepare(text).Find([]Statement{s})
	})
}
