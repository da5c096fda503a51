package ui_test

import (
	"strings"
	"testing"

	"github.com/cloister-os/cloister/ui/uitest"
)

const (
	retryTalk = "/ask/01K9QZ3T7M0VXRB4E6WJ2H8NDA"
	retryTurn = "/ask/01K9QZ4G8P5TYC2VNE7AK3XW6R"
)

// A conversation is read, gone on with, stopped, renamed and deleted by forms
// alone.
func TestAConversationNeedsNoScript(t *testing.T) {
	p := visit(t, uitest.Full(), true)
	page := p.get(retryTalk)
	p.want(page, 200, "Who last changed settlement/retry.go?", "And when was that?", "“that”: <span class=\"break\">the change of 2026-11-19", `name="talk" value="01K9QZ3T7M0VXRB4E6WJ2H8NDA"`, "1 citation")
	if n := strings.Count(page.Body.String(), `id="cite-1"`); n != 1 {
		t.Errorf("%d citations have the same id", n)
	}
	p.want(p.get(retryTurn), 303, retryTalk+"#now")
	p.want(p.get("/ask"), 200, "2 questions", "Find by title")
	p.want(p.get("/ask?title=RETRY"), 200, "settlement/retry.go")
	p.want(p.get("/ask?title=nowhere+at+all"), 200, "No conversation has these words in its title")

	p.want(p.post("/ask", "question", "Who else?", "talk", "01K9QZ3T7M0VXRB4E6WJ2H8NDA"), 303, retryTalk+"#now")
	p.want(p.get(retryTalk), 200, "Stop", `http-equiv="refresh"`)
	p.want(p.post("/ask", "question", "Why?", "talk", "01K9QZ3T7M0VXRB4E6WJ2H8NDA"), 422, "still being worked on", `value="Why?"`)

	p.want(p.post(retryTalk+"/rename", "title", "  "), 422, "A title has", `aria-invalid="true"`)
	p.want(p.post(retryTalk+"/rename", "title", "Retries"), 303, retryTalk)
	p.want(p.get(retryTalk), 200, ">Retries</h1>")

	p.want(p.get(retryTalk+"/delete"), 200, "Delete “Retries”?", "What remains")
	p.want(p.post(retryTalk+"/delete"), 303, "/ask?deleted")
	p.want(p.get("/ask?deleted"), 200, "The conversation is deleted")
	p.want(p.get(retryTalk), 404)
}

func TestARunIsStoppedByAForm(t *testing.T) {
	p := visit(t, uitest.Full(), true)
	res := p.post("/ask", "question", "How long are settlement files kept?")
	at, _, _ := strings.Cut(res.Header().Get("Location"), "#")
	p.want(p.post(at+"/stop"), 303, at)
	p.want(p.get(at), 200, "Stopped", "Ask again", `name="talk"`)
	p.want(p.post(at+"/stop"), 303, at+"?ended")
	p.want(p.get(at+"?ended"), 200, "It had ended already")
}
