package audit

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// full is a record with every member.
func full() Record {
	return Record{
		ID: "OUT1", Kind: Outcome,
		Actor:    Actor{Kind: auth.Agent, ID: "answer@1", OnBehalfOf: &Actor{Kind: auth.User, ID: "u-7"}},
		Action:   auth.ModelInfer,
		Resource: Resource{Type: "Model", ID: "gemma \"3\"\n\x01\u2028<é>\xff"},
		Decision: "allow", Policies: []string{"agents-infer", "b"},
		ArgsSHA256: strings.Repeat("0a", 32), Run: "run-1", UseCase: "ask",
		Detail: map[string]any{
			"text": "x", "yes": true, "n": 7, "i64": int64(-9), "u8": uint8(3), "none": nil, "role": auth.Auditor,
			"list": []string{"a", "b"}, "mixed": []any{1, "two", false}, "map": map[string]any{"b": 1, "a": map[string]int{"z": 1}},
		},
		Intent: "INT1", Status: "failed", Error: "the engine stopped", CostNanoUSD: 1234567,
		Usage:    map[string]int64{"tokens_out": 5, "tokens_in": 12, "cpu_ns": 987654321},
		Personal: map[string]string{"name": strings.Repeat("ff", 32)}, Node: "n1",
	}
}

// TestALeafIsWrittenAsEver: leaves are hashed; their spelling never changes.
func TestALeafIsWrittenAsEver(t *testing.T) {
	small := Record{ID: "INT1", Kind: Intent, Actor: Actor{Kind: auth.User, ID: "u-7"}, Action: auth.Ask, Resource: Resource{Type: "System", ID: "cloister"}}
	for name, r := range map[string]Record{"full.json": full(), "small.json": small} {
		leaf, err := r.Leaf()
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", name)
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(golden, leaf, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if string(leaf) != string(want) {
			t.Errorf("%s\n got %s\nwant %s", name, leaf, want)
		}
	}
}

func TestALeafIsCanonicalJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9_.-]{1,12}`)
		text := rapid.String().Filter(func(s string) bool { return !strings.ContainsAny(s, "\u2028\u2029") })
		r := Record{
			ID: rapid.StringMatching(`[A-Z0-9]{1,26}`).Draw(t, "id"), Kind: Event, Action: "test",
			Actor:    Actor{Kind: auth.System, ID: text.Draw(t, "actor")},
			Resource: Resource{Type: "T", ID: string(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes"))},
			Detail:   map[string]any{},
			Usage:    rapid.MapOfN(name, rapid.Int64Range(-maxSafeInt, maxSafeInt), 0, 5).Draw(t, "usage"),
		}
		for k, v := range rapid.MapOfN(name, text, 0, 20).Draw(t, "detail") {
			r.Detail[k] = v
		}
		leaf, err := r.Leaf()
		if err != nil {
			t.Fatal(err)
		}
		// The standard library, told to escape nothing, sorts names and spells
		// everything alike but two characters, which text leaves out.
		var any map[string]any
		d := json.NewDecoder(strings.NewReader(string(leaf)))
		d.UseNumber()
		if err := d.Decode(&any); err != nil {
			t.Fatalf("%s: %v", leaf, err)
		}
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(any); err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSuffix(b.String(), "\n"); string(leaf) != want {
			t.Fatalf("\n got %s\nwant %s", leaf, want)
		}
	})
}

func TestARecordComesBack(t *testing.T) {
	want := full()
	leaf, err := want.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseRecord(leaf)
	if err != nil {
		t.Fatal(err)
	}
	want.Resource.ID = strings.ToValidUTF8(want.Resource.ID, "\ufffd")
	want.Detail = map[string]any{
		"text": "x", "yes": true, "n": int64(7), "i64": int64(-9), "u8": int64(3), "none": nil, "role": "auditor",
		"list": []any{"a", "b"}, "mixed": []any{int64(1), "two", false}, "map": map[string]any{"b": int64(1), "a": map[string]any{"z": int64(1)}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

func TestWhatCannotBeRecordedIsRefused(t *testing.T) {
	deep := any("x")
	for range maxDepth + 2 {
		deep = []any{deep}
	}
	for name, c := range map[string]struct {
		change func(*Record)
		want   error
	}{
		"kind":              {func(r *Record) { r.Kind = "odd" }, store.ErrInvalid},
		"no action":         {func(r *Record) { r.Action = "" }, store.ErrInvalid},
		"no actor":          {func(r *Record) { r.Actor = Actor{} }, store.ErrInvalid},
		"no intent":         {func(r *Record) { r.Intent = "" }, store.ErrInvalid},
		"float":             {func(r *Record) { r.Detail["f"] = 1.5 }, store.ErrInvalid},
		"struct":            {func(r *Record) { r.Detail["s"] = struct{}{} }, store.ErrInvalid},
		"large number":      {func(r *Record) { r.CostNanoUSD = math.MaxInt64 }, store.ErrInvalid},
		"large unsigned":    {func(r *Record) { r.Detail["u"] = uint64(math.MaxUint64) }, store.ErrInvalid},
		"member name":       {func(r *Record) { r.Detail["Ü"] = 1 }, store.ErrInvalid},
		"nesting":           {func(r *Record) { r.Detail["d"] = deep }, store.ErrInvalid},
		"long text":         {func(r *Record) { r.Error = strings.Repeat("x", maxText+1) }, store.ErrTooLarge},
		"much of it":        {func(r *Record) { r.Policies = make([]string, MaxLeafBytes/2) }, store.ErrTooLarge},
		"endless principal": {func(r *Record) { r.Actor.OnBehalfOf = &r.Actor }, store.ErrInvalid},
	} {
		r := full()
		c.change(&r)
		tx := store.NewTx()
		if err := Append(tx, r); !errors.Is(err, c.want) || tx.Len() != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	r := full()
	leaf, _ := r.Leaf()
	f.Add(leaf)
	f.Add([]byte(`{"v":1}`))
	f.Fuzz(func(t *testing.T, leaf []byte) {
		r, err := ParseRecord(leaf)
		if err != nil {
			return
		}
		again, err := r.Leaf()
		if err != nil {
			return
		}
		back, err := ParseRecord(again)
		if err != nil {
			t.Fatalf("%s became %s: %v", leaf, again, err)
		}
		if third, err := back.Leaf(); err != nil || string(third) != string(again) {
			t.Errorf("%s became %s, then %s", leaf, again, third)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	r := Record{
		ID: "KJ7Q2R6W5XAMV3PLTBHCN4SDFE", Kind: Intent, Actor: Actor{Kind: auth.Agent, ID: "answer@1", OnBehalfOf: &Actor{Kind: auth.User, ID: "u-7"}},
		Action: auth.SourceRead, Resource: Resource{Type: "Source", ID: "handbook"}, Decision: "allow", Policies: []string{"users-read-sources"},
		ArgsSHA256: strings.Repeat("0a", 32), Run: "KJ7Q2R6W5XAMV3PLTBHCN4SDFE", UseCase: "ask", Detail: map[string]any{"rows": int64(12), "kind": "text"}, Node: "n1",
	}
	b.ReportAllocs()
	tx := store.NewTx()
	for b.Loop() {
		if tx.Len() == 100 {
			tx = store.NewTx()
		}
		if err := Append(tx, r); err != nil {
			b.Fatal(err)
		}
	}
}
