package policy

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/cloister-os/cloister/auth"
)

// maxText bounds the text of one policy, in bytes.
const maxText = 16 << 10

// Schema is what policies may speak of.
//
//go:embed schema.cedarschema
var Schema string

// validator is the schema, read once.
var validator = sync.OnceValues(func() (*validate.Validator, error) {
	var s schema.Schema
	if err := s.UnmarshalCedar([]byte(Schema)); err != nil {
		return nil, err
	}
	resolved, err := s.Resolve()
	if err != nil {
		return nil, err
	}
	return validate.New(resolved), nil
})

// idForm is what an @id looks like: it stands in URLs, errors and audit records.
var idForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// compile parses and checks one policy with its @id. Errors are one sentence and
// match ErrInvalid.
func compile(text string) (*compiled, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrInvalid, maxText)
	}
	list, err := parse(text)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("%w: the text holds %d policies, put them one by one", ErrInvalid, len(list))
	}
	p := list[0]
	notes := p.Annotations()
	for name := range notes {
		if !slices.Contains([]string{"id", "obligation", "note"}, string(name)) {
			return nil, fmt.Errorf("%w: line %d: there is no annotation @%s, only @id, @obligation and @note", ErrInvalid, p.Position().Line, name)
		}
	}
	id := string(notes["id"])
	if !idForm.MatchString(id) || id == DefaultDeny {
		return nil, fmt.Errorf("%w: line %d: begin it with @id(\"some-name\"), of small letters, digits and hyphens", ErrInvalid, p.Position().Line)
	}
	if err := check(p); err != nil {
		return nil, fmt.Errorf("%w: %s, line %d: %w", ErrInvalid, id, p.Position().Line, err)
	}
	c := &compiled{
		Policy:     Policy{ID: id, Text: strings.TrimSpace(text), Comment: commentOf(text[:p.Position().Offset]), Effect: "permit"},
		cedar:      p,
		obligation: string(notes["obligation"]),
	}
	if p.Effect() == cedar.Forbid {
		c.Effect = "forbid"
	}
	return c, nil
}

func parse(text string) (cedar.PolicyList, error) {
	list, err := cedar.NewPolicyListFromBytes("", []byte(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, syntax(err))
	}
	return list, nil
}

// position is how the parser says where.
var position = regexp.MustCompile(`^parser error: parse error at <input>:(\d+):(\d+) `)

// syntax is the parser's message in one line that begins with the place.
func syntax(err error) string {
	line := strings.Join(strings.Fields(err.Error()), " ")
	return position.ReplaceAllString(line, "line $1, column $2: ")
}

// check refuses what the schema does not know: a typing mistake in a name would
// else make a forbid that forbids nothing.
func check(p *cedar.Policy) error {
	v, err := validator()
	if err != nil {
		return fmt.Errorf("the schema: %w", err)
	}
	tree := (*ast.Policy)(p.AST())
	if err := v.Policy("", tree); err != nil {
		return fmt.Errorf("%s", firstLine(err.Error()))
	}
	return checkNames(tree)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// checkNames refuses roles and groups that nobody can be in. The schema cannot:
// roles stand within one another, which Cedar's enumerated types cannot express,
// and a group is named by its directory's identifier, never by its name.
func checkNames(p *ast.Policy) error {
	uids := scopeEntities(p.Principal)
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			if v, ok := n.(ast.NodeValue); ok {
				uids = append(uids, entitiesIn(v.Value)...)
			}
			return true
		})
	}
	for _, uid := range uids {
		if uid.Type == typeRole && !knownRole(auth.Role(uid.ID)) {
			return fmt.Errorf("there is no role %q", uid.ID)
		}
		if uid.Type == typeGroup && !groupForm.MatchString(string(uid.ID)) {
			return fmt.Errorf("%q is no group: write DIRECTORY/UUID, as the list of the directory's groups shows it", uid.ID)
		}
	}
	return nil
}

var groupForm = regexp.MustCompile(`^[a-z0-9-]{1,40}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func scopeEntities(scope ast.IsScopeNode) []cedar.EntityUID {
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		return []cedar.EntityUID{s.Entity}
	case ast.ScopeTypeIn:
		return []cedar.EntityUID{s.Entity}
	case ast.ScopeTypeIsIn:
		return []cedar.EntityUID{s.Entity}
	}
	return nil
}

func entitiesIn(v cedar.Value) []cedar.EntityUID {
	switch v := v.(type) {
	case cedar.EntityUID:
		return []cedar.EntityUID{v}
	case cedar.Set:
		var all []cedar.EntityUID
		for e := range v.All() {
			all = append(all, entitiesIn(e)...)
		}
		return all
	}
	return nil
}

func knownRole(r auth.Role) bool {
	for _, known := range auth.Roles() {
		if r == known {
			return true
		}
	}
	return false
}

// commentOf returns the last block of comment lines, without the slashes.
func commentOf(before string) string {
	var lines []string
	for line := range strings.Lines(before) {
		body, ok := strings.CutPrefix(strings.TrimSpace(line), "//")
		if !ok {
			lines = nil
			continue
		}
		lines = append(lines, strings.TrimSpace(body))
	}
	return strings.Join(lines, " ")
}

// withoutTail drops the empty lines and comments after a policy: they belong to
// the next one.
func withoutTail(body string) string {
	lines := strings.Split(body, "\n")
	for len(lines) > 0 {
		last := strings.TrimSpace(lines[len(lines)-1])
		if last != "" && !strings.HasPrefix(last, "//") {
			break
		}
		lines = lines[:len(lines)-1]
	}
	return strings.Join(lines, "\n")
}

// split cuts a file of policies into one text for each, with its comment.
func split(file string) ([]string, error) {
	list, err := parse(file)
	if err != nil {
		return nil, err
	}
	texts := make([]string, 0, len(list))
	for i, p := range list {
		end := len(file)
		if i+1 < len(list) {
			end = list[i+1].Position().Offset
		}
		body := withoutTail(file[p.Position().Offset:end])
		text := ""
		if c := commentOf(file[:p.Position().Offset]); c != "" {
			text = "// " + c + "\n"
		}
		texts = append(texts, text+body)
	}
	return texts, nil
}
