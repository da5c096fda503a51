package view

import "strings"

// token is a piece of a policy's text and the class that colours it.
type token struct{ class, text string }

var cedarWords = map[string]string{
	"permit": "kw", "forbid": "no", "when": "kw", "unless": "no",
	"principal": "kw", "action": "kw", "resource": "kw", "context": "kw",
	"in": "kw", "is": "kw", "has": "kw", "like": "kw", "if": "kw", "then": "kw", "else": "kw",
}

// cedar splits a policy's text for colouring: comments, strings and words. The
// tokens joined are the text.
func cedar(text string) []token {
	var out []token
	plain := 0
	cut := func(i, j int, class string) {
		if plain < i {
			out = append(out, token{"", text[plain:i]})
		}
		out = append(out, token{class, text[i:j]})
		plain = j
	}
	for i := 0; i < len(text); {
		switch j := i; {
		case strings.HasPrefix(text[i:], "//"):
			for j < len(text) && text[j] != '\n' {
				j++
			}
			cut(i, j, "rem")
			i = j
		case text[i] == '"':
			for j++; j < len(text) && text[j] != '"'; j++ {
				if text[j] == '\\' {
					j++
				}
			}
			j = min(j+1, len(text))
			cut(i, j, "str")
			i = j
		case wordByte(text[i]):
			for j < len(text) && wordByte(text[j]) {
				j++
			}
			if class := cedarWords[text[i:j]]; class != "" {
				cut(i, j, class)
			}
			i = j
		default:
			i++
		}
	}
	if plain < len(text) {
		out = append(out, token{"", text[plain:]})
	}
	return out
}

func wordByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
