package policy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

func key(scopes ...string) auth.Principal {
	return auth.Principal{Kind: auth.APIKey, ID: "k-1", Scopes: scopes, Sources: []string{"wiki"}}
}

func agentFor(p auth.Principal) auth.Principal {
	return auth.Principal{Kind: auth.Agent, ID: "answer@1", OnBehalfOf: &p}
}

func node() auth.Principal { return auth.Principal{Kind: auth.System, ID: "node-1"} }

// capability is what somebody can do because of one permit.
type capability struct {
	who    auth.Principal
	action auth.Action
	on     auth.Resource
	facts  map[string]any
}

var (
	wiki     = auth.Source("wiki")
	hr       = auth.Source("hr")
	gemma    = auth.Model("gemma")
	system   = auth.TheSystem
	auditLog = auth.AuditLog
)

// capabilities names, for each permit of the starter file, what is lost without it.
func capabilities() map[string]capability {
	asker, builder, admin := person(auth.Asker), person(auth.Builder), person(auth.Administrator)
	operator, auditor := person(auth.Operator), person(auth.Auditor)
	return map[string]capability{
		"people-ask":                        {asker, auth.Ask, system, nil},
		"people-read-sources":               {asker, auth.SourceRead, wiki, nil},
		"people-ask-through-agents":         {agentFor(asker), auth.ModelEmbed, gemma, nil},
		"people-read-their-runs":            {asker, auth.RunRead, auth.Run("r", "u-1"), nil},
		"people-manage-their-memories":      {asker, auth.MemoryWrite, auth.Memory("own", "u-1"), nil},
		"people-manage-their-sessions":      {auditor, auth.SessionManage, system, nil},
		"people-see-status":                 {person(), auth.SystemStatus, system, nil},
		"builders-use-models":               {builder, auth.ModelInfer, gemma, nil},
		"builders-list-models":              {builder, auth.ModelList, system, nil},
		"operators-manage-models":           {operator, auth.ModelManage, gemma, nil},
		"operators-list-models":             {operator, auth.ModelList, system, nil},
		"operators-see-the-nodes":           {operator, auth.ClusterRead, system, nil},
		"operators-manage-the-nodes":        {operator, auth.ClusterManage, system, nil},
		"operators-manage-backups":          {operator, auth.BackupManage, system, nil},
		"administrators-manage-backups":     {admin, auth.BackupManage, system, nil},
		"operators-manage-the-seal":         {operator, auth.SealManage, system, nil},
		"administrators-manage-the-seal":    {admin, auth.SealManage, system, nil},
		"administrators-manage-directories": {admin, auth.DirectoryManage, system, nil},

		"administrators-see-the-nodes":    {admin, auth.ClusterRead, system, nil},
		"administrators-manage-the-nodes": {admin, auth.ClusterManage, system, nil},
		"administrators-manage-sources":   {admin, auth.SourceManage, wiki, nil},
		"administrators-see-who-reads":    {admin, auth.AccessRead, system, nil},
		"administrators-manage-models":    {admin, auth.ModelManage, gemma, nil},
		"administrators-read-the-record":  {admin, auth.AuditExport, auditLog, nil},
		"administrators-manage-keys":      {admin, auth.KeyManage, system, nil},
		"administrators-manage-policies":  {admin, auth.PolicyManage, system, nil},
		"auditors-read-the-record":        {auditor, auth.AuditExport, auditLog, nil},
		"auditors-read-policies":          {auditor, auth.PolicyRead, system, nil},
		"keys-ask":                        {key("ask"), auth.Ask, system, nil},
		"keys-ask-through-agents":         {agentFor(key("ask")), auth.ModelEmbed, gemma, nil},
		"keys-read-their-runs":            {key("ask"), auth.RunRead, auth.Run("r", "k-1"), nil},
		"keys-read-granted-sources":       {key(), auth.SourceRead, wiki, nil},
		"keys-manage-granted-sources":     {key("source"), auth.SourceManage, wiki, nil},
		"keys-use-models":                 {key("model"), auth.ModelInfer, gemma, nil},
		"keys-list-models":                {key("model"), auth.ModelList, system, nil},
		"keys-read-the-record":            {key("audit"), auth.AuditExport, auditLog, nil},
		"keys-manage-keys":                {key("key"), auth.KeyManage, system, nil},
		"keys-manage-policies":            {key("policy"), auth.PolicyManage, system, nil},
		"keys-see-who-reads":              {key("policy"), auth.AccessRead, system, nil},
		"keys-see-status":                 {key(), auth.SystemStatus, system, nil},
		"agents-work":                     {agentFor(asker), auth.SourceRead, wiki, nil},
		"node-syncs-sources":              {node(), auth.SourceFetch, wiki, nil},
		"node-makes-vectors":              {node(), auth.ModelEmbed, gemma, nil},
		"node-imports-its-pack":           {node(), auth.ModelManage, gemma, nil},
		"node-forgets-again":              {node(), auth.MemoryWrite, auth.Memory("m", "u-1"), nil},
		"node-makes-backups":              {node(), auth.BackupManage, system, nil},
	}
}

// refusals names, for each forbid, what it refuses even where a later policy
// permits everything.
func refusals() map[string]capability {
	return map[string]capability{
		"key-outside-its-sources":  {key("ask", "source"), auth.SourceRead, hr, nil},
		"key-without-scope-ask":    {key("model"), auth.Ask, system, nil},
		"key-without-scope-source": {key("ask"), auth.SourceManage, wiki, nil},
		"key-without-scope-model":  {key("ask"), auth.ModelInfer, gemma, nil},
		"key-without-scope-audit":  {key("ask"), auth.AuditExport, auditLog, nil},
		"key-without-scope-key":    {key("ask"), auth.KeyManage, system, nil},
		"key-without-scope-policy": {key("ask"), auth.PolicyRead, system, nil},
		"keys-never":               {key(auth.Scopes()...), auth.ModelManage, gemma, nil},
		"keys-make-none-wider":     {key("key"), auth.KeyManage, system, map[string]any{"wider": true}},
		"keys-have-no-memories":    {key(auth.Scopes()...), auth.MemoryRead, auth.Memory("own", "k-1"), nil},
		"memories-are-private":     {person(auth.Administrator), auth.MemoryRead, auth.Memory("own", "u-2"), nil},
		"agents-never-administer":  {agentFor(person(auth.Administrator)), auth.KeyManage, system, nil},
	}
}

// without is the starter policies but one, and more beside them.
func without(t *testing.T, removed string, more ...string) *set {
	t.Helper()
	texts, err := split(Starter)
	if err != nil {
		t.Fatal(err)
	}
	byID := map[string]*compiled{}
	for _, text := range append(texts, more...) {
		c, err := compile(text)
		if err != nil {
			t.Fatal(err)
		}
		if c.ID != removed {
			byID[c.ID] = c
		}
	}
	return newSet(byID, map[string]store.Version{}, 1)
}

func TestRemovingAnyOnePermitLosesACapability(t *testing.T) {
	table := capabilities()
	for _, p := range without(t, "").list() {
		if p.Effect != "permit" {
			continue
		}
		t.Run(p.ID, func(t *testing.T) {
			c, ok := table[p.ID]
			if !ok {
				t.Fatal("no capability is named for this permit: add one, or the permit is not needed")
			}
			d := without(t, "").decide(c.who, c.action, c.on, c.facts)
			if !d.Allow || !slices.Contains(d.Policies, p.ID) {
				t.Fatalf("with the permit: %+v", d)
			}
			if d := without(t, p.ID).decide(c.who, c.action, c.on, c.facts); d.Allow {
				t.Fatalf("without the permit: %+v", d)
			}
		})
		delete(table, p.ID)
	}
	for id := range table {
		t.Errorf("%s is in the table and not among the starter policies", id)
	}
}

func TestRemovingAnyOneForbidLetsALaterPermitWiden(t *testing.T) {
	const everything = `@id("everything") permit (principal, action, resource);`
	table := refusals()
	for _, p := range without(t, "").list() {
		if p.Effect != "forbid" {
			continue
		}
		t.Run(p.ID, func(t *testing.T) {
			c, ok := table[p.ID]
			if !ok {
				t.Fatal("no refusal is named for this forbid: add one, or the forbid is not needed")
			}
			d := without(t, "", everything).decide(c.who, c.action, c.on, c.facts)
			if d.Allow || !slices.Equal(d.Policies, []string{p.ID}) {
				t.Fatalf("with the forbid: %+v", d)
			}
			if d := without(t, p.ID, everything).decide(c.who, c.action, c.on, c.facts); !d.Allow {
				t.Fatalf("without the forbid: %+v", d)
			}
		})
		delete(table, p.ID)
	}
	for id := range table {
		t.Errorf("%s is in the table and not among the starter policies", id)
	}
}

func TestEveryStarterPolicyHasACommentForPeople(t *testing.T) {
	p, _ := open(t)
	for _, policy := range p.List() {
		if policy.Comment == "" || strings.Contains(policy.Comment, "----") {
			t.Errorf("%s: comment %q", policy.ID, policy.Comment)
		}
		if !strings.Contains(Starter, policy.Text[strings.Index(policy.Text, "@id"):]) {
			t.Errorf("%s: the stored text is not the file's", policy.ID)
		}
	}
}

// TestWhoMayWhat compares every decision of the starter policies with a golden
// file that a person can read. UPDATE_GOLDEN=1 writes it anew; look at the difference.
func TestWhoMayWhat(t *testing.T) {
	type column struct {
		name string
		who  auth.Principal
	}
	var columns []column
	for _, r := range auth.Roles() {
		columns = append(columns, column{string(r), person(r)})
	}
	columns = append(columns, column{"no role", person()}, column{"node", node()}, column{"agent:user", agentFor(person(auth.Asker))},
		column{"agent:admin", agentFor(person(auth.Administrator))}, column{"agent:key:ask", agentFor(key("ask"))}, column{"key", key()})
	for _, s := range auth.Scopes() {
		columns = append(columns, column{"key:" + s, key(s)})
	}
	on := map[auth.Action][]auth.Resource{
		auth.SourceRead: {wiki, hr}, auth.SourceManage: {wiki, hr}, auth.SourceFetch: {wiki, hr},
		auth.ModelInfer: {gemma}, auth.ModelEmbed: {gemma}, auth.ModelManage: {gemma},
		auth.AuditRead: {auditLog}, auth.AuditExport: {auditLog},
		auth.RunRead:     {auth.Run("mine", "u-1"), auth.Run("key's", "k-1"), auth.Run("other's", "u-2")},
		auth.MemoryRead:  {auth.Memory("mine", "u-1"), auth.Memory("key's", "k-1"), auth.Memory("other's", "u-2")},
		auth.MemoryWrite: {auth.Memory("mine", "u-1"), auth.Memory("key's", "k-1"), auth.Memory("other's", "u-2")},
	}
	s := without(t, "")
	var b strings.Builder
	fmt.Fprintln(&b, "Who may what by the starter policies. Keys are granted the source wiki and not hr.")
	for _, action := range auth.Actions() {
		resources := on[action]
		if resources == nil {
			resources = []auth.Resource{system}
		}
		for _, r := range resources {
			var may []string
			for _, c := range columns {
				if s.decide(c.who, action, r, nil).Allow {
					may = append(may, c.name)
				}
			}
			if len(may) == 0 {
				may = []string{"nobody"}
			}
			fmt.Fprintf(&b, "\n%s on %s %s:\n  %s\n", action, r.Type, r.ID, strings.Join(may, ", "))
		}
	}
	golden := filepath.Join("testdata", "who-may-what.txt")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("decisions differ from %s; they are:\n%s", golden, b.String())
	}
}

func TestDelegationIsAnIntersection(t *testing.T) {
	s := without(t, "")
	auditor := person(auth.Auditor)
	if s.decide(agentFor(auditor), auth.SourceRead, wiki, nil).Allow {
		t.Error("an agent read a source for someone who may not")
	}
	if d := s.decide(agentFor(key("ask")), auth.SourceRead, hr, nil); d.Allow || !slices.Equal(d.Policies, []string{"key-outside-its-sources"}) {
		t.Errorf("an agent for a key reached outside the key's sources: %+v", d)
	}
	if s.decide(key("ask"), auth.ModelEmbed, gemma, map[string]any{"agent": "answer@1"}).Allow {
		t.Error("a key passed for an agent by claiming the fact")
	}
	if s.decide(auth.Principal{Kind: auth.Agent, ID: "answer@1"}, auth.SourceRead, wiki, nil).Allow {
		t.Error("an agent that acts for nobody read a source")
	}
	chain := person(auth.Asker)
	for range auth.MaxDelegation {
		chain = agentFor(chain)
	}
	if !s.decide(chain, auth.SourceRead, wiki, nil).Allow {
		t.Error("the longest chain of delegation was refused")
	}
	if s.decide(agentFor(chain), auth.SourceRead, wiki, nil).Allow {
		t.Error("a longer chain was permitted")
	}
	loop := auth.Principal{Kind: auth.Agent, ID: "loop@1"}
	loop.OnBehalfOf = &loop
	if s.decide(loop, auth.SourceRead, wiki, nil).Allow {
		t.Error("a loop of delegation was permitted")
	}
}

func TestAnEvaluationErrorRefuses(t *testing.T) {
	// The schema keeps such a policy out; an overflow of typed numbers is what is left.
	overflow := `@id("overflow") forbid (principal, action == Action::"ask", resource) when { context has reserve_nano_usd && context.reserve_nano_usd * 9223372036854775807 > 0 };`
	s := without(t, "", overflow)
	d := s.decide(person(auth.Asker), auth.Ask, system, map[string]any{"reserve_nano_usd": int64(3)})
	if d.Allow || d.Err == nil || !slices.Equal(d.Policies, []string{"overflow"}) {
		t.Fatalf("%+v", d)
	}
	if d := s.decide(person(auth.Asker), auth.Ask, system, map[string]any{"labels": 3.5}); d.Allow || d.Err == nil {
		t.Fatalf("a fact of an unknown type: %+v", d)
	}
}

func TestAStoredPolicyThatCannotBeReadRefusesAllButItsRepair(t *testing.T) {
	_, st := open(t)
	tx := store.NewTx()
	tx.Put(policies.Key("garbled"), []byte{0xff, 0x00})
	if _, err := st.Apply(context.Background(), tx); err != nil {
		t.Fatal(err)
	}
	p, err := New(context.Background(), st, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := p.Decide(person(auth.Administrator), auth.Ask, system, nil); d.Allow || !slices.Equal(d.Policies, []string{"garbled"}) {
		t.Fatalf("%+v", d)
	}
	if !p.Decide(person(auth.Administrator), auth.PolicyManage, system, nil).Allow {
		t.Fatal("an administrator cannot repair it")
	}
	tx = store.NewTx()
	if err := p.Remove(tx, "garbled"); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Apply(context.Background(), tx); err != nil {
		t.Fatal(err)
	}
	if !p.Decide(person(auth.Administrator), auth.Ask, system, nil).Allow {
		t.Fatal("refused after the repair")
	}
}
