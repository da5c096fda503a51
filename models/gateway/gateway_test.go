package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/gateway"
	"github.com/cloister-os/cloister/models/modelstest"
	"github.com/cloister-os/cloister/models/registry"
	"github.com/cloister-os/cloister/store"
)

// desk is a gateway over an engine in memory, behind a server.
type desk struct {
	*gateway.Gateway
	house    *guardtest.House
	engine   *modelstest.Engine
	registry *registry.Registry
	server   *httptest.Server
}

func open(t *testing.T) *desk {
	t.Helper()
	house := guardtest.Open(t, nil)
	d := &desk{house: house, registry: registry.New(house.Store), engine: &modelstest.Engine{Words: []string{"one", " two", " three"}}}
	quiet := slog.New(slog.DiscardHandler)
	prices, err := budget.NewPrices(t.Context(), house.Store, quiet)
	if err != nil {
		t.Fatal(err)
	}
	d.Gateway, err = gateway.New(gateway.Config{Guard: house.Guard, Engine: d.engine, Registry: d.registry, Prices: prices, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []registry.Model{
		{Name: "talker", Kind: models.Completion, Digest: strings.Repeat("a", 64)},
		{Name: "vectors", Kind: models.Embedding, Dimensions: modelstest.Width, Digest: strings.Repeat("b", 64)},
	} {
		if err := d.registry.Put(t.Context(), m, ""); err != nil {
			t.Fatal(err)
		}
	}
	d.server = httptest.NewServer(d.Handler(func(r *http.Request) (auth.Principal, error) {
		switch r.Header.Get("Authorization") {
		case "Bearer model":
			return guardtest.Key([]string{auth.ScopeModel}), nil
		case "Bearer ask":
			return guardtest.KeyFor("a"), nil
		}
		return auth.Principal{}, auth.ErrUnauthenticated
	}))
	t.Cleanup(d.server.Close)
	return d
}

func (d *desk) post(t *testing.T, path, body string) (*http.Response, string) {
	t.Helper()
	res := d.begin(t, t.Context(), path, body)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(data)
}

func (d *desk) begin(t *testing.T, ctx context.Context, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer model")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// outcome returns the only outcome of an action, once it is written.
func (d *desk) outcome(t *testing.T, action auth.Action) audit.Record {
	t.Helper()
	for ctx := t.Context(); ; {
		for _, r := range d.house.Records(t) {
			if r.Kind == audit.Outcome && r.Action == action {
				return r
			}
		}
		select {
		case <-time.After(5 * time.Millisecond): // outcomes of reads are batched
		case <-ctx.Done():
			t.Fatal("no outcome was recorded")
		}
	}
}

const hello = `{"model":"default","messages":[{"role":"user","content":"hello"}]%s}`

func ask(more string) string { return fmt.Sprintf(hello, more) }

func TestAStreamHasTheShapeThatClientsExpect(t *testing.T) {
	d := open(t)
	res, body := d.post(t, "/v1/chat/completions", ask(`,"stream":true,"stream_options":{"include_usage":true}`))
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %s: %s", res.Status, res.Header, body)
	}
	var shape []string
	for _, event := range strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		data, ok := strings.CutPrefix(event, "data: ")
		if !ok {
			t.Fatalf("event %q", event)
		}
		if data == "[DONE]" {
			shape = append(shape, "done")
			continue
		}
		var chunk struct {
			Object  string
			Choices []struct {
				Delta  struct{ Role, Content *string }
				Finish *string `json:"finish_reason"`
			}
			Usage map[string]int64
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil || chunk.Object != "chat.completion.chunk" {
			t.Fatalf("chunk %q: %v", data, err)
		}
		switch {
		case len(chunk.Choices) == 0:
			shape = append(shape, fmt.Sprintf("usage %d+%d=%d", chunk.Usage["prompt_tokens"], chunk.Usage["completion_tokens"], chunk.Usage["total_tokens"]))
			if chunk.Usage["cost_nano_usd"] <= 0 {
				t.Error("the call cost nothing")
			}
		case chunk.Choices[0].Finish != nil:
			shape = append(shape, "finish "+*chunk.Choices[0].Finish)
		case chunk.Choices[0].Delta.Role != nil:
			shape = append(shape, *chunk.Choices[0].Delta.Role)
		default:
			shape = append(shape, *chunk.Choices[0].Delta.Content)
		}
	}
	if got, want := strings.Join(shape, "|"), "assistant|one| two| three|finish stop|usage 7+3=10|done"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
}

func TestAWholeAnswerAndItsBill(t *testing.T) {
	d := open(t)
	res, body := d.post(t, "/v1/chat/completions", ask(`,"max_completion_tokens":9,"stop":"x","temperature":0.5,"unknown_field":1`))
	var reply struct {
		Object  string
		Choices []struct {
			Message struct{ Role, Content string }
			Finish  string `json:"finish_reason"`
		}
		Usage struct {
			Prompt     int64 `json:"prompt_tokens"`
			Completion int64 `json:"completion_tokens"`
			Cost       int64 `json:"cost_nano_usd"`
		}
	}
	if err := json.Unmarshal([]byte(body), &reply); err != nil || res.StatusCode != 200 {
		t.Fatalf("%s: %s", res.Status, body)
	}
	if c := reply.Choices[0]; reply.Object != "chat.completion" || c.Message.Role != "assistant" || c.Message.Content != "one two three" || c.Finish != "stop" {
		t.Errorf("reply %s", body)
	}
	p := d.engine.Prompts()[0]
	if p.MaxTokens != 9 || len(p.Stop) != 1 || *p.Temperature != 0.5 || p.Model != "talker" || p.Messages[0].Content != "hello" {
		t.Errorf("the engine was asked %+v", p)
	}
	out := d.outcome(t, auth.ModelInfer)
	if out.Status != guard.StatusOK || out.CostNanoUSD != reply.Usage.Cost || out.Usage[budget.TokensIn] != 7 || out.Usage[budget.TokensOut] != 3 || out.Usage[budget.CPU] != 3e6 {
		t.Errorf("recorded %+v, replied %s", out, body)
	}
}

func TestAFailureInMidStreamIsATerminalEvent(t *testing.T) {
	d := open(t)
	d.engine.Fail = models.Fail(models.ErrInterrupted, "the model stopped: try again")
	res, body := d.post(t, "/v1/chat/completions", ask(`,"stream":true`))
	events := strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n")
	last := events[len(events)-1]
	if res.StatusCode != 200 || !strings.Contains(last, `{"error":{"message":"the model stopped: try again"`) || !strings.Contains(last, `"code":"model_interrupted"`) {
		t.Errorf("%s, last event %s", res.Status, last)
	}
	out := d.outcome(t, auth.ModelInfer)
	if out.Status != guard.StatusFailed || out.Usage[budget.TokensOut] != 3 || out.CostNanoUSD <= 0 || out.Error != models.ErrInterrupted.Error() {
		t.Errorf("recorded %+v", out)
	}
}

func TestAFailureBeforeTheFirstByteIsAnOrdinaryError(t *testing.T) {
	for _, stream := range []string{"", `,"stream":true`} {
		for kind, status := range map[error]int{models.ErrUnavailable: 503, models.ErrBusy: 503, models.ErrInvalid: 400, errors.New("secret"): 500} {
			d := open(t)
			d.engine.Words, d.engine.Fail = nil, models.Fail(kind, "what to do")
			res, body := d.post(t, "/v1/chat/completions", ask(stream))
			if res.StatusCode != status || !json.Valid([]byte(body)) || (status == 500) == strings.Contains(body, "what to do") {
				t.Errorf("%v%s: %s %s", kind, stream, res.Status, body)
			}
		}
	}
}

func TestACallerThatLeavesStopsTheModelAndIsBilled(t *testing.T) {
	d := open(t)
	d.engine.Gate = make(chan struct{})
	stopped := make(chan struct{})
	d.engine.Begun = func(ctx context.Context) { context.AfterFunc(ctx, func() { close(stopped) }) }
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	sent := make(chan struct{})
	go func() { d.engine.Gate <- struct{}{}; close(sent) }()
	res := d.begin(t, ctx, "/v1/chat/completions", ask(`,"stream":true`))
	defer res.Body.Close()
	<-sent
	if _, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	leave()
	<-stopped
	out := d.outcome(t, auth.ModelInfer)
	if out.Status != guard.StatusFailed || out.Usage[budget.TokensIn] != 7 || out.Usage[budget.TokensOut] < 1 || out.Error != "the caller left" {
		t.Errorf("recorded %+v", out)
	}
}

func TestNoByteIsReleasedBeforeTheIntentIsDurable(t *testing.T) {
	d := open(t)
	slow := &slowStore{Store: d.house.Store, release: make(chan struct{})}
	house := guardtest.Open(t, slow)
	close(slow.release) // the set-up goes through
	slow.hold()
	prices, err := budget.NewPrices(t.Context(), d.house.Store, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Config{Guard: house.Guard, Engine: d.engine, Registry: d.registry, Prices: prices})
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{ResponseRecorder: httptest.NewRecorder(), wrote: make(chan struct{}, 100)}
	done := make(chan struct{})
	began := make(chan struct{})
	d.engine.Begun = func(context.Context) { close(began) }
	go func() {
		defer close(done)
		g.Handler(func(*http.Request) (auth.Principal, error) { return guardtest.Key([]string{auth.ScopeModel}), nil }).
			ServeHTTP(w, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(ask(`,"stream":true`))))
	}()
	<-began // the model works while the record is written
	<-slow.waiting
	select {
	case <-w.wrote:
		t.Error("bytes were released before the intent was durable")
	default:
	}
	slow.let()
	<-done
	if len(w.wrote) == 0 {
		t.Error("nothing was released after it")
	}
}

// watched tells when a reply is written.
type watched struct {
	*httptest.ResponseRecorder
	wrote chan struct{}
}

func (w *watched) Write(b []byte) (int, error) {
	w.wrote <- struct{}{}
	return w.ResponseRecorder.Write(b)
}

// slowStore holds submitted transactions until it is told to go on.
type slowStore struct {
	store.Store
	release chan struct{}
	waiting chan struct{}
}

func (s *slowStore) hold() { s.release, s.waiting = make(chan struct{}), make(chan struct{}, 100) }
func (s *slowStore) let()  { close(s.release) }

func (s *slowStore) Submit(ctx context.Context, tx *store.Tx, class store.Class) store.Future {
	if s.waiting == nil {
		return s.Store.Submit(ctx, tx, class)
	}
	f := &held{done: make(chan struct{})}
	go func() {
		defer close(f.done)
		s.waiting <- struct{}{}
		<-s.release
		f.res, f.err = s.Store.Apply(ctx, tx)
	}()
	return f
}

type held struct {
	done chan struct{}
	res  store.Result
	err  error
}

func (f *held) Wait(ctx context.Context) (store.Result, error) {
	select {
	case <-f.done:
		return f.res, f.err
	case <-ctx.Done():
		return store.Result{}, ctx.Err()
	}
}

func TestVectorsComeInBothEncodings(t *testing.T) {
	d := open(t)
	_, plain := d.post(t, "/v1/embeddings", `{"model":"default","input":["a text","another"]}`)
	var list struct {
		Data []struct {
			Index     int
			Embedding []float64
		}
		Usage struct {
			Prompt int64 `json:"prompt_tokens"`
		}
	}
	if err := json.Unmarshal([]byte(plain), &list); err != nil || len(list.Data) != 2 || len(list.Data[1].Embedding) != modelstest.Width || list.Data[1].Index != 1 || list.Usage.Prompt != 3 {
		t.Fatalf("%s: %v", plain, err)
	}
	_, coded := d.post(t, "/v1/embeddings", `{"model":"vectors","input":"a text","encoding_format":"base64"}`)
	var one struct{ Data []struct{ Embedding []byte } }
	if err := json.Unmarshal([]byte(coded), &one); err != nil || len(one.Data[0].Embedding) != 4*modelstest.Width {
		t.Fatalf("%s: %v", coded, err)
	}
	bits := uint32(0)
	for i := range 4 {
		bits |= uint32(one.Data[0].Embedding[i]) << (8 * i)
	}
	if got := float64(math.Float32frombits(bits)); math.Abs(got-list.Data[0].Embedding[0]) > 1e-6 {
		t.Errorf("first number %v and %v", got, list.Data[0].Embedding[0])
	}
}

func TestMistakesAreNamed(t *testing.T) {
	d := open(t)
	cases := []struct{ path, body, says string }{
		{"/v1/chat/completions", `{`, "not JSON"},
		{"/v1/chat/completions", `{"model":1}`, "model"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}]}`, "which model"},
		{"/v1/chat/completions", `{"model":"default","messages":[]}`, "messages"},
		{"/v1/chat/completions", `{"model":"default","messages":[{"role":"tool","content":"x"}]}`, "role"},
		{"/v1/chat/completions", `{"model":"default","messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, "text only"},
		{"/v1/chat/completions", ask(`,"n":2`), "one answer"},
		{"/v1/chat/completions", ask(`,"tools":[{}]`), "tools"},
		{"/v1/chat/completions", ask(`,"temperature":3`), "temperature"},
		{"/v1/chat/completions", ask(`,"max_tokens":0`), "max_tokens"},
		{"/v1/chat/completions", ask(`,"stop":7`), "stop"},
		{"/v1/embeddings", `{"model":"default","input":[]}`, "texts"},
		{"/v1/embeddings", `{"model":"default","input":[[1,2]]}`, "token numbers"},
		{"/v1/embeddings", `{"model":"default","input":"x","dimensions":3}`, "dimensions"},
		{"/v1/embeddings", `{"model":"talker","input":"x"}`, "not for embeddings"},
		{"/v1/embeddings", `{"model":"cl_0123456789abcdef_0123456789","input":"x"}`, "API key was given where a name belongs"},
	}
	for _, c := range cases {
		res, body := d.post(t, c.path, c.body)
		var reply struct {
			Error struct{ Message, Type, Code string }
		}
		if err := json.Unmarshal([]byte(body), &reply); err != nil || res.StatusCode != 400 || !strings.Contains(strings.ToLower(reply.Error.Message), strings.ToLower(c.says)) || reply.Error.Type != "invalid_request_error" {
			t.Errorf("%s %s: %s %s", c.path, c.body, res.Status, body)
		}
	}
	if res, body := d.post(t, "/v1/chat/completions", ask(`,"x":"`+strings.Repeat("x", 5<<20)+`"`)); res.StatusCode != 413 {
		t.Errorf("a huge body: %s %s", res.Status, body)
	}
	if res, body := d.post(t, "/v1/completions", `{}`); res.StatusCode != 404 || !strings.Contains(body, "unknown_url") {
		t.Errorf("a call that is not offered: %s %s", res.Status, body)
	}
}

func TestTermsThatNobodyAcceptedBlockTheModel(t *testing.T) {
	d := open(t)
	bound := registry.Model{Name: "talker", Kind: models.Completion, Licence: "Strict Terms", Terms: true, Text: "cc"}
	if err := d.registry.Put(t.Context(), bound, "the terms"); err != nil {
		t.Fatal(err)
	}
	res, body := d.post(t, "/v1/chat/completions", ask(""))
	if res.StatusCode != 403 || !strings.Contains(body, "Strict Terms") || !strings.Contains(body, "cloister model accept talker") {
		t.Errorf("%s %s", res.Status, body)
	}
	if len(d.engine.Prompts()) != 0 {
		t.Error("the model was used")
	}
}

func TestABudgetThatIsSpentRefuses(t *testing.T) {
	d := open(t)
	tx := store.NewTx()
	limit := budget.Limit{Dimension: budget.ByModel, ID: "talker", Period: budget.Day, Amount: 1}
	if err := d.house.Ledger().SetLimit(t.Context(), tx, limit); err != nil {
		t.Fatal(err)
	}
	if _, err := d.house.Store.Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{"", `,"stream":true`} {
		res, body := d.post(t, "/v1/chat/completions", ask(stream))
		if res.StatusCode != 429 || !strings.Contains(body, "insufficient_quota") {
			t.Errorf("%s %s", res.Status, body)
		}
	}
}

func TestCallsBeyondTheBoundAreRefusedAtOnce(t *testing.T) {
	d := open(t)
	d.engine.Gate = make(chan struct{})
	began := make(chan struct{}, 100)
	d.engine.Begun = func(context.Context) { began <- struct{}{} }
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for range 64 {
		go func() {
			req, _ := http.NewRequestWithContext(ctx, "POST", d.server.URL+"/v1/chat/completions", strings.NewReader(ask("")))
			req.Header.Set("Authorization", "Bearer model")
			if res, err := http.DefaultClient.Do(req); err == nil {
				res.Body.Close()
			}
		}()
	}
	for range 64 {
		<-began
	}
	res, body := d.post(t, "/v1/chat/completions", ask(""))
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !strings.Contains(body, "overloaded") {
		t.Errorf("%s %s", res.Status, body)
	}
}

func TestTheEmbedderSplitsWhatIsTooMuchForOneCall(t *testing.T) {
	d := open(t)
	e := d.Embedder(guardtest.Node())
	texts := make([]string, 1200)
	for i := range texts {
		texts[i] = fmt.Sprintf("text number %d", i)
	}
	v, err := e.Embed(t.Context(), texts)
	if err != nil || len(v) != 1200 || len(v[1199]) != e.Dimensions() || e.Model() != "vectors@bbbbbbbbbbbb" {
		t.Fatalf("%d vectors, %d dimensions, model %q: %v", len(v), e.Dimensions(), e.Model(), err)
	}
	if _, err := d.Embedder(guardtest.Auditor()).Embed(t.Context(), texts[:1]); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("an auditor: %v", err)
	}
	if err := d.registry.Remove(t.Context(), "vectors"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Embed(t.Context(), texts[:1]); !errors.Is(err, models.ErrNoModel) || e.Model() != "" || e.Dimensions() != 0 {
		t.Errorf("without a model: %v, %q, %d", err, e.Model(), e.Dimensions())
	}
}

func TestWhoMayNotUseModelsLearnsNothingOfThem(t *testing.T) {
	d := open(t)
	for _, name := range []string{"default", "talker", "absent", "a\u0000b"} {
		body, _ := json.Marshal(map[string]any{"model": name, "messages": []map[string]string{{"role": "user", "content": "x"}}})
		req, err := http.NewRequest("POST", d.server.URL+"/v1/chat/completions", strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer ask")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(res.Body)
		res.Body.Close()
		var reply struct {
			Error struct {
				Code     string
				Policies []string
				Record   uint64
			}
		}
		if err := json.Unmarshal(data, &reply); err != nil || res.StatusCode != 403 || reply.Error.Code != "policy_denied" || len(reply.Error.Policies) == 0 {
			t.Errorf("model %q: %s %s", name, res.Status, data)
		}
	}
}
