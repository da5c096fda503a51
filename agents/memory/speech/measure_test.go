package speech

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// said is something that somebody told, and ways to ask for it later. They were
// written from how people talk, before the matcher's lists of words, and share
// nothing with them.
type said struct {
	say string
	ask []string
}

var told = []said{
	{"our release day is Thursday", []string{"when do we release?", "which day do we ship?", "what is our release day?", "on what weekday do releases go out?"}},
	{"remember that the staging host is hv-12", []string{"what is the staging host?", "which machine is staging?", "where does staging run?", "what's the host name of staging"}},
	{"I am on call this week", []string{"am I on call?", "who is on call this week?", "do I have pager duty?", "who's oncall right now?"}},
	{"my manager is Ines Duarte", []string{"who is my manager?", "who is my boss?", "what is the name of my manager?", "who do I report to as a manager?"}},
	{"our standup is at 09:30", []string{"when is our standup?", "what time is the stand-up?", "at what time does the standup start?", "when do we have standup?"}},
	{"my desk is 4.12", []string{"where is my desk?", "which desk is mine?", "what is my desk number?", "what's my desk?"}},
	{"we use Postgres for billing", []string{"what do we use for billing?", "which database does billing use?", "what is used for billing?", "do we use postgres for billing?"}},
	{"my favourite editor is Helix", []string{"what is my favourite editor?", "which editor do I prefer?", "what editor do I like best?", "which editor is my favorite?"}},
	{"remember that the VPN gateway is vpn.example.org", []string{"what is the vpn gateway?", "what's the address of the VPN gateway?", "which gateway does the vpn have?", "vpn gateway address?"}},
	{"our office in Porto closes at 19:00", []string{"when does the Porto office close?", "at what time does our office in Porto close?", "what time is closing in the porto office?", "until when is the Porto office open, when does it close?"}},
	{"our code freeze starts on 12 December", []string{"when does the code freeze start?", "what date does the freeze start?", "when is our code freeze?", "from when on is the code freeze?"}},
	{"remember that Ola owns the ledger service", []string{"who owns the ledger service?", "whose is the ledger service?", "who is the owner of the ledger service?", "who is responsible for the ledger service?"}},
	{"our budget for training is 4000 euros", []string{"what is our training budget?", "how much money do we have for training?", "how big is the budget for training?", "what's the budget for training?"}},
	{"my phone extension is 4471", []string{"what is my phone extension?", "what's my extension?", "which extension do I have on the phone?", "what is the number of my phone extension?"}},
	{"we deploy on Tuesdays", []string{"when do we deploy?", "on which day do we deploy?", "what day are deployments?", "which weekday do we roll out deployments?"}},
	{"I prefer short answers", []string{"what kind of answers do I prefer?", "do I prefer short answers?", "which answers do I like?", "how short do I prefer answers?"}},
	{"our security officer is Jon Weller", []string{"who is our security officer?", "what's the name of the security officer?", "who is the officer for security?", "who do we have as security officer?"}},
	{"remember that the backup tapes go to Braga", []string{"where do the backup tapes go?", "where are backup tapes sent?", "to which city do the tapes of the backup go?", "where do our backup tapes end up?"}},
	{"my time zone is Europe/Lisbon", []string{"what is my time zone?", "which timezone am I in?", "what's my timezone?", "in what time zone do I live?"}},
	{"our ticket prefix is OPS", []string{"what is our ticket prefix?", "which prefix do our tickets have?", "what's the prefix of a ticket?", "what do tickets have as a prefix?"}},
	{"I work on the Falcon team", []string{"which team do I work on?", "what team do I work in?", "on which team am I working?", "what is the team I work on?"}},
	{"our main customer is Nordbank", []string{"who is our main customer?", "which customer is the main one?", "what is the name of our main customer?", "who's our main client?"}},
	{"remember that the maintenance window is Sunday 02:00 to 04:00", []string{"when is the maintenance window?", "what time is the maintenance window?", "what are the hours of the maintenance window?", "when is our window for maintenance?"}},
	{"my laptop is a ThinkPad X1", []string{"what laptop do I have?", "which laptop is mine?", "what is my laptop?", "what kind of laptop is it that I have?"}},
	{"we meet on Wednesdays at 14:00", []string{"when do we meet?", "on which day do we meet?", "what day is our meeting?", "at what time do we meet?"}},
	{"our wiki is at wiki.corp.example", []string{"where is our wiki?", "what is the address of our wiki?", "what's the url of the wiki?", "on which address is the wiki?"}},
	{"remember that invoices are approved by Marta", []string{"who approves invoices?", "by whom are invoices approved?", "who approves an invoice?", "who is it that invoices are approved by?"}},
	{"our database password rotation is every 90 days", []string{"how often is the database password rotated?", "what is our database password rotation?", "how often do we rotate the password of the database?", "what is the interval of database password rotation?"}},
	{"my birthday is 4 May", []string{"when is my birthday?", "what date is my birthday?", "when was I born, what is my birthday?", "which day is my birthday?"}},
	{"our production region is eu-west-3", []string{"what is our production region?", "which region is production in?", "what region does production use?", "in which region do we have production?"}},
	{"I am allergic to nuts", []string{"what am I allergic to?", "do I have an allergy?", "am I allergic to anything?", "which allergy do I have?"}},
	{"our sprint ends on Friday", []string{"when does our sprint end?", "on which day does the sprint end?", "what day is the end of the sprint?", "when is the sprint finished?"}},
	{"remember that the printer code is 7781", []string{"what is the printer code?", "which code does the printer have?", "what's the code of the printer?", "what is the code for the printer?"}},
	{"my cost centre is 5520", []string{"what is my cost centre?", "which cost centre do I have?", "what's the number of my cost centre?", "which cost centre am I on?"}},
	{"our incident channel is #inc-now", []string{"what is our incident channel?", "which channel is for incidents?", "what's the channel for an incident?", "where is our incident channel?"}},
	{"we buy hardware from Velt", []string{"who do we buy hardware from?", "from whom do we buy hardware?", "where do we buy our hardware?", "which company do we buy hardware from?"}},
	{"our retention for logs is 30 days", []string{"what is our retention for logs?", "how long is the retention of logs?", "how long do we keep logs, what is our retention?", "what's the log retention?"}},
	{"my badge number is 20917", []string{"what is my badge number?", "which number has my badge?", "what's the number of my badge?", "which badge number is mine?"}},
	{"remember that Falcon is written in Rust", []string{"what language is Falcon written in?", "in what is Falcon written?", "which language is falcon written in?", "what is Falcon written in?"}},
	{"our auditor comes in October", []string{"when does our auditor come?", "in which month does the auditor come?", "what month does our auditor come?", "when is the auditor coming?"}},
	{"our pager rotation changes on Monday", []string{"when does the pager rotation change?", "on which day does our pager rotation change?", "what day does the rotation of the pager change?", "when is the change of the pager rotation?"}},
	{"my deputy is Tomas", []string{"who is my deputy?", "what is my deputy called?", "who's my deputy?", "what is the name of my deputy?"}},
	{"we speak Portuguese in the office", []string{"which language do we speak in the office?", "what do we speak in the office?", "what language is spoken in our office?", "do we speak portuguese in the office?"}},
	{"our load balancer is lb-2", []string{"what is our load balancer?", "which load balancer do we have?", "what's the name of the load balancer?", "which one is our load balancer?"}},
	{"remember that the team lunch is on the first Friday of the month", []string{"when is the team lunch?", "which day is our team lunch?", "on what day is the lunch of the team?", "when do we have the team lunch?"}},
	{"my commute takes 40 minutes", []string{"how long is my commute?", "how long does my commute take?", "how many minutes does my commute take?", "what time does my commute take?"}},
	{"our contract with Nordbank ends in 2028", []string{"when does our contract with Nordbank end?", "in which year does the Nordbank contract end?", "until when is the contract with Nordbank, when does it end?", "what year is the end of the contract with Nordbank?"}},
	{"I sit next to the kitchen", []string{"where do I sit?", "what do I sit next to?", "next to what do I sit?", "where is it that I sit?"}},
	{"our default branch is trunk", []string{"what is our default branch?", "which branch is the default?", "what's the default branch called?", "what is the name of our default branch?"}},
	{"remember that the spare key is with reception", []string{"where is the spare key?", "who has the spare key?", "where do I find the spare key?", "with whom is the spare key?"}},
}

// unrelated are questions that nobody told anything about. Half of them share a
// word with something that was told.
var unrelated = []string{
	"Who last changed src/retry.go?", "how long are backups kept?", "when was 2.0 released?", "which document explains retries?", "how many commits are there?",
	"who wrote the handbook?", "what changed yesterday?", "when was config.yaml added?", "how many people worked on the parser?", "what is the retry budget?",
	"how fresh are the sources?", "what is the default timeout?", "which port does the server listen on?", "who reviewed the last change?", "what did Ada do last week?",
	"when was the first commit?", "what is the capital of Portugal?", "how do I rotate the signing key?", "how do I encrypt a backup?", "what does error E042 mean?",
	"where is the retry loop?", "which services depend on the queue?", "how is a snapshot restored?", "what are the steps of an upgrade?", "why did the build fail?",
	"what is the maximum message size?", "how many retries are allowed?", "what happens when the disk is full?", "how do we revoke an API key?", "who may read the audit log?",
	"what is the meaning of a watermark?", "when did the outage happen?", "how long did the outage last?", "what caused the outage?", "which release fixed the leak?",
	"what is a cost center report?", "how is the log verified?", "what is the checkpoint interval?", "which file holds the root key?", "how do I install the package?",
	"what are the licence terms?", "which models are installed?", "how much does a question cost?", "who approved the policy change?", "what does the policy forbid?",
	"how are nodes invited?", "what is the format of a bundle?", "which tests are flaky?", "how long does a sync take?", "what was skipped in the last sync?",
	"what is the weather tomorrow?", "how tall is the tower?", "who won the match?", "what is the population of Braga?", "who painted the ceiling?",
	"when was the last release of the parser?", "what is the release process?", "who wrote the release notes?", "how many releases were there in 2024?", "what was in the last release?",
	"how do I reach the staging logs?", "who changed the staging configuration?", "why is staging slow?", "when was staging rebuilt?", "how many services run on staging?",
	"who called the retry function?", "which function calls parse?", "what happens in a callback?", "how is an on call shift handed over?", "what is the escalation policy?",
	"what does the package manager install?", "which manager class handles sessions?", "how does the connection manager work?", "who is the manager of the warehouse project?", "what is a window manager?",
	"how does billing round amounts?", "why was billing migrated?", "who changed the billing schema?", "what is the billing error rate?", "when did billing fail?",
	"how do I configure my editor for Go?", "which editor config is in the repository?", "what is the VPN protocol?", "why does the VPN drop?", "who maintains the gateway code?",
	"what does gateway timeout mean?", "how is the ledger sorted?", "when was ledger.go renamed?", "which tests cover the ledger?", "what is the ledger's schema?",
	"who attended the training last year?", "how is the training data made?", "what does a budget error mean?", "how is the retry budget refilled?", "who raised the memory budget?",
	"which file extension has a pack?", "what browser extension is allowed?", "how are answers verified?", "how long may answers be?", "what makes an answer short?",
	"what security headers are set?", "which security bugs were fixed?", "what did the security review find?", "how many tapes does the library hold?", "where are backups written?",
	"what is the backup format?", "how are backups encrypted?", "which team wrote the parser?", "how many teams use the queue?", "what are team permissions?",
	"how are customers notified?", "which customer reported the bug?", "how is a customer record deleted?", "what is the window size?", "how big is the sliding window?",
	"why did the laptop image change?", "which invoices are late?", "how is an invoice numbered?", "what is the password policy?", "how long must a password be?",
	"how is the database migrated?", "what is the database version?", "who broke the database?", "which region had the outage?", "what is the memory region layout?",
	"what does a sprint planning template hold?", "how is the printer driver installed?", "what does exit code 3 mean?", "which channel does the event bus use?", "how is a channel closed in Go?",
	"what hardware is supported?", "which CPU does the hardware need?", "how are logs rotated?", "where are logs written?", "what does the log level debug print?",
	"which languages are supported?", "what is Falcon?", "who started the Falcon project?", "when was Falcon deprecated?", "how does an auditor verify a bundle?",
	"what may an auditor see?", "how is leader rotation done?", "which contract tests exist?", "what is in the API contract?", "what does the contract of the store promise?",
	"which branch has the fix?", "how do I delete a branch?", "who merged the branch?", "what is a key prefix?", "how is the spare capacity computed?",
	"which keys are expired?", "who made the API keys?", "what is in the kitchen sink test?", "how does the load test work?", "what is the load on node b?",
	"what is my balance?", "who am I?", "what did I ask yesterday?", "which questions did I ask?", "what can you do?",
	"where was the conference?", "how many days are in a leap year?", "what time is it?", "what day is it today?", "when is Easter?",
	"how do I change my password?", "how do I sign out?", "what is two factor sign in?", "what is the number of open tickets?", "which tickets are overdue?",
	"who opened ticket 4471?", "what is the prefix tree used for?", "where do we document decisions?", "which wiki page explains retries?", "who edited the wiki?",
	"what is the printing format of dates?", "how do I parse a time zone?", "why are time zones hard?", "how is maintenance mode turned on?", "what runs during maintenance?",
	"which commits touch the scheduler?", "who introduced the cache?", "when was the cache removed?", "how many lines has parser.go?", "what is the newest document?",
	"how do readers wait for a version?", "what is a fence?", "why are leases needed?", "which node leads?", "how many nodes vote?",
	"what does the birthday paradox say?", "when does the certificate expire?", "who signed the certificate?", "how do I renew a certificate?", "what is the office suite?",
	"which office documents can be read?", "how is a desk check done?", "where is the help desk manual?", "what is a standup comedian?", "how are meetings recorded?",
	"who deployed last night?", "how do I deploy a hotfix?", "what does the deploy script do?", "why did the deployment stop?", "which deployments failed?",
}

// toldLater and unrelatedLater were written once the matcher was done, and changed
// nothing in it.
var toldLater = []said{
	{"our board meeting is on 3 June", []string{"when is the board meeting?", "what date is our board meeting?", "on which day does the board meet?"}},
	{"remember that the wifi network is guest-7", []string{"what is the wifi network?", "which wifi network do we have?", "what's the wifi network called?"}},
	{"my mentor is Sofia Reis", []string{"who is my mentor?", "what is my mentor's name?", "do I have a mentor?"}},
	{"our fiscal year starts in April", []string{"when does our fiscal year start?", "in which month does the fiscal year begin?", "what month is the start of the fiscal year?"}},
	{"we keep the runbooks in the ops repository", []string{"where do we keep the runbooks?", "in which repository are the runbooks?", "where are our runbooks kept?"}},
	{"I am responsible for the metrics stack", []string{"what am I responsible for?", "who is responsible for the metrics stack?", "for which stack am I responsible?"}},
	{"our support line is open from 08:00 to 18:00", []string{"when is our support line open?", "what are the hours of the support line?", "from when to when is the support line open?"}},
	{"remember that Tomas is on holiday until 2026-04-01", []string{"who is on holiday?", "until when is Tomas on holiday?", "is Tomas on vacation?"}},
	{"my travel card number is 88-12", []string{"what is my travel card number?", "what's the number of my travel card?", "which travel card number do I have?"}},
	{"our legal contact is Rui", []string{"who is our legal contact?", "what's the name of the legal contact?", "who do we contact for legal matters?"}},
	{"we test restores every quarter", []string{"how often do we test restores?", "what is it that we test every quarter?", "when do we test restores?"}},
	{"our compiler version is 1.26", []string{"which compiler version do we have?", "what is the version of our compiler?", "what's our compiler version?"}},
}

var unrelatedLater = []string{
	"who sits on the board of the foundation?", "what does the network diagram show?", "which fiscal rules apply to invoices?", "who started the year with a fix?",
	"what is a support bundle?", "how is a support ticket closed?", "who wrote the metrics exporter?", "which metrics are exported?", "what is the stack size of a goroutine?",
	"how do I read a stack trace?", "which tests cover restore?", "how long does a restore take?", "what is the compiler warning about?", "which version fixed the race?",
	"what is the newest version?", "who holds the legal hold?", "what are legal holds?", "how is a contact list imported?", "which card reader is supported?",
	"what is the travel policy?", "who travels to Braga?", "how many runbooks are there?", "which runbook explains failover?", "who changed the runbook last?",
	"when was the repository created?", "who mentors the interns?", "how is a quarter computed?", "what is a holiday calendar file?",
	"when does the lease end?", "who can open a support case?", "which line of retry.go panics?", "how many lines does it have?", "what opens the seal?",
	"what is open telemetry?", "is the port open?", "why was the meeting cancelled?", "which board has the chip?", "how are months written?", "what starts the node?",
}

// frames are ways to put a question that change nothing about what it asks.
var frames = []string{"%s", "Please tell me: %s", "remind me, %s", "Hey, %s", "I forgot, %s"}

// measured is how well a part of what was told is found among all of it.
type measured struct {
	asked, found, others, wrong int
	missed, mistaken            []string
}

func measure(t *testing.T, told []said, unrelated []string, ours func(i int) bool) measured {
	t.Helper()
	var all []Statement
	for _, x := range told {
		s, ok := Recognise(x.say, thursday)
		if !ok {
			t.Fatalf("%q was not taken for a statement", x.say)
		}
		all = append(all, s)
	}
	var m measured
	for i, x := range told {
		if !ours(i) {
			continue
		}
		for j, ask := range x.ask {
			ask = fmt.Sprintf(frames[(i+j)%len(frames)], ask)
			m.asked++
			got := Prepare(ask).Find(all)
			if len(got) > 0 && got[0].Index == i {
				m.found++
			} else {
				m.missed = append(m.missed, fmt.Sprintf("%q: %v: %s", ask, got, x.say))
			}
		}
	}
	for i, ask := range unrelated {
		if !ours(i) {
			continue
		}
		ask = fmt.Sprintf(frames[i/2%len(frames)], ask)
		m.others++
		if got := Prepare(ask).Find(all); len(got) > 0 {
			m.wrong++
			m.mistaken = append(m.mistaken, fmt.Sprintf("%q: %.2f %s", ask, got[0].Score, all[got[0].Index].Words))
		}
	}
	return m
}

func (m measured) recall() float64  { return float64(m.found) / float64(m.asked) }
func (m measured) falsely() float64 { return float64(m.wrong) / float64(m.others) }

func (m measured) and(o measured) measured {
	return measured{m.asked + o.asked, m.found + o.found, m.others + o.others, m.wrong + o.wrong, append(slices.Clone(m.missed), o.missed...), append(slices.Clone(m.mistaken), o.mistaken...)}
}

// TestWhatWasToldIsFoundAndNothingElse: the numbers of match.go were set on the
// development half alone. What was written later is a third of the size, so one
// question more or less is much of it: it counts with the rest.
func TestWhatWasToldIsFoundAndNothingElse(t *testing.T) {
	dev := measure(t, told, unrelated, func(i int) bool { return i%2 == 0 })
	held := measure(t, told, unrelated, func(i int) bool { return i%2 == 1 })
	later := measure(t, toldLater, unrelatedLater, func(int) bool { return true })
	for _, c := range []struct {
		name   string
		m      measured
		judged bool
	}{
		{"development", dev, true}, {"held out", held, true}, {"written later", later, false}, {"all", dev.and(held).and(later), true},
	} {
		t.Logf("%s: %d of %d paraphrases found (%.1f %%), %d of %d unrelated questions mistaken (%.1f %%)",
			c.name, c.m.found, c.m.asked, 100*c.m.recall(), c.m.wrong, c.m.others, 100*c.m.falsely())
		t.Logf("missed:\n%s\nmistaken:\n%s", strings.Join(c.m.missed, "\n"), strings.Join(c.m.mistaken, "\n"))
		if c.judged && c.m.recall() < 0.9 {
			t.Errorf("%s: too few are found", c.name)
		}
		if c.judged && c.m.falsely() > 0.02 {
			t.Errorf("%s: too many are mistaken", c.name)
		}
	}
}

func TestAnUnusualValueIsFoundByItsName(t *testing.T) {
	s, ok := Recognise("our release day is after the review", thursday)
	if !ok || len(Prepare("what is our release day?").Find([]Statement{s})) != 1 || len(Prepare("when is the party?").Find([]Statement{s})) != 0 {
		t.Errorf("%+v, %v", s, ok)
	}
	if s, ok = Recognise("our standup is in room 4", thursday); !ok || len(Prepare("when is our standup?").Find([]Statement{s})) != 0 {
		t.Errorf("a room was told to whom asked for the time: %+v, %v", s, ok)
	}
}

// TestTheMeasurementCanFail: with nothing told nothing is found.
func TestTheMeasurementCanFail(t *testing.T) {
	for _, x := range told {
		for _, ask := range x.ask {
			if got := Prepare(ask).Find(nil); got != nil {
				t.Fatalf("%q: %v", ask, got)
			}
		}
	}
	if n := len(unrelated); n < 200 || len(told)*4 < 200 {
		t.Errorf("only %d unrelated questions and %d paraphrases: too few to measure with", n, len(told)*4)
	}
	if i := slices.IndexFunc(told, func(x said) bool { return len(x.ask) != 4 }); i >= 0 {
		t.Errorf("%q has %d paraphrases", told[i].say, len(told[i].ask))
	}
}
