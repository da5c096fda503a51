package measure

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// XQuAD is the English part of the XQuAD data set (CC BY-SA, for evaluation
// only): paragraphs of encyclopedia articles, questions, and spans that answer
// them.
type XQuAD struct {
	Paragraphs []Paragraph
}

// Paragraph is one paragraph with its questions.
type Paragraph struct {
	Article   int
	Text      string
	Questions []SpanQuestion
}

// SpanQuestion is a question that a span of its paragraph answers.
type SpanQuestion struct {
	Text   string
	Answer string
	Start  int // byte offset of the answer in the paragraph
}

// DataDir is the folder of test data: CLOISTER_TESTDATA, or ../shared/data
// beside the repository that holds the working directory.
func DataDir() (string, error) {
	if dir := os.Getenv("CLOISTER_TESTDATA"); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		found := filepath.Join(dir, "shared", "data")
		if _, err := os.Stat(found); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("there is no test data: set CLOISTER_TESTDATA to the folder that holds xquad/xquad.en.json")
}

// LoadXQuAD reads the data set from the folder of test data.
func LoadXQuAD(dir string) (XQuAD, error) {
	b, err := os.ReadFile(filepath.Join(dir, "xquad", "xquad.en.json"))
	if err != nil {
		return XQuAD{}, err
	}
	var raw struct {
		Data []struct {
			Paragraphs []struct {
				Context string
				Qas     []struct {
					Question string
					Answers  []struct {
						Start int `json:"answer_start"`
						Text  string
					}
				}
			}
		}
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return XQuAD{}, fmt.Errorf("read XQuAD: %w", err)
	}
	var x XQuAD
	for i, a := range raw.Data {
		for _, p := range a.Paragraphs {
			para := Paragraph{Article: i, Text: p.Context}
			for _, q := range p.Qas {
				if len(q.Answers) > 0 {
					start := byteOffset(p.Context, q.Answers[0].Start)
					para.Questions = append(para.Questions, SpanQuestion{strings.TrimSpace(q.Question), q.Answers[0].Text, start})
				}
			}
			x.Paragraphs = append(x.Paragraphs, para)
		}
	}
	return x, nil
}

// byteOffset turns an offset in characters into one in bytes.
func byteOffset(s string, runes int) int {
	n := 0
	for i := range s {
		if n == runes {
			return i
		}
		n++
	}
	return len(s)
}

// Half returns the paragraphs of every other article: the half that
// coefficients are fitted on (0) and the half that they are measured on (1).
func (x XQuAD) Half(n int) XQuAD {
	var out XQuAD
	for _, p := range x.Paragraphs {
		if p.Article%2 == n {
			out.Paragraphs = append(out.Paragraphs, p)
		}
	}
	return out
}

// Files are the paragraphs as documents, one each, named by their number.
func (x XQuAD) Files() []File {
	out := make([]File, len(x.Paragraphs))
	for i, p := range x.Paragraphs {
		out[i] = File{Path: fmt.Sprintf("p%03d.txt", i), Body: p.Text}
	}
	return out
}
