package holdfast_test

import (
	"fmt"
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fsm"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
)

const tourPath = "docs/tour.md"

var (
	migratedEdge = regexp.MustCompile(`\('(\w+)',\s*'(\w+)',\s*'(\w+)'\)`)
	diagram      = regexp.MustCompile("(?s)```mermaid\n(stateDiagram-v2\n.*?)```")
	// link is [text](target), link to a symbol [`Name`](file).
	link = regexp.MustCompile("\\[([^\\]\n]+)\\]\\(([^)#\\s]+)(?:#[^)]*)?\\)")
)

func TestTransitionsAreTheSameInGoAndInTheDatabase(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, edgesOf(transfer.Transitions), migratedEdges(t, "transfer_transitions"))
	require.ElementsMatch(t, edgesOf(order.Transitions), migratedEdges(t, "order_transitions"))
}

func edgesOf[S, E ~string](table fsm.Table[S, E]) []string {
	var edges []string
	for _, e := range table.Edges() {
		edges = append(edges, fmt.Sprintf("%s %s %s", e.From, e.Event, e.To))
	}
	return edges
}

// migratedEdges lists the rows that the migrations give a table of transitions on their way up.
func migratedEdges(t *testing.T, table string) []string {
	t.Helper()
	files, err := filepath.Glob("db/migrations/*.sql")
	require.NoError(t, err)
	var edges []string
	for _, file := range files {
		up, _, _ := strings.Cut(read(t, file), "-- +goose Down")
		require.NotContains(t, up, "DELETE FROM "+table, "rows that go away again are not known here")
		_, rows, _ := strings.Cut(up, "INSERT INTO "+table)
		rows, _, _ = strings.Cut(rows, ";")
		for _, m := range migratedEdge.FindAllStringSubmatch(rows, -1) {
			edges = append(edges, strings.Join(m[1:], " "))
		}
	}
	return edges
}

func TestGeneratedDiagramsOfTheTourAreCurrent(t *testing.T) {
	t.Parallel()
	tour := read(t, tourPath)
	drawn := diagram.FindAllStringSubmatchIndex(tour, -1)
	require.Len(t, drawn, 2, "docs/tour.md has a state diagram of transfers and one of orders")
	compareOrWrite(t, tourPath, tour[:drawn[0][2]]+transfer.Transitions.Mermaid(transfer.Accepted)+
		tour[drawn[0][3]:drawn[1][2]]+order.Transitions.Mermaid(order.Pending)+tour[drawn[1][3]:])
}

// ownFiles are those of a domain that the other has nothing of: transfers call dependencies, orders do not.
var ownFiles = []string{"note.go", "notify.go", "payout.go", "posture.go"}

// TestDomainsHaveTheSameShape lets who has read one domain find their way in the other: its files have
// the same names, but for that of its noun. A transfer alone calls other systems, and notes what they said.
func TestDomainsHaveTheSameShape(t *testing.T) {
	t.Parallel()
	files := func(domain string) []string {
		entries, err := os.ReadDir(filepath.Join("internal", domain))
		require.NoError(t, err)
		var names []string
		for _, e := range entries {
			if name := e.Name(); strings.HasSuffix(name, ".go") && !isTest(name) {
				names = append(names, strings.Replace(name, domain+".go", "noun.go", 1))
			}
		}
		return names
	}
	require.Contains(t, files("order"), "noun.go")
	shared := slices.DeleteFunc(files("transfer"), func(name string) bool {
		return slices.Contains(ownFiles, name)
	})
	require.ElementsMatch(t, shared, files("order"))
	require.DirExists(t, "internal/transfer/transfertest")
	require.DirExists(t, "internal/order/ordertest")
}

// TestTheReadingPathIsShort counts the numbered files of the tour.
func TestTheReadingPathIsShort(t *testing.T) {
	t.Parallel()
	step := regexp.MustCompile("(?m)^## \\d+\\. \\[`([^`]+)`\\]\\(")
	steps := step.FindAllStringSubmatch(read(t, tourPath), -1)
	require.NotEmpty(t, steps)
	require.LessOrEqual(t, len(steps), readingPathMaxFile)
	var files []string
	for _, s := range steps {
		require.NotContains(t, files, s[1], "a file of the reading path comes once")
		files = append(files, s[1])
	}
}

func TestLinksOfDocumentsLeadSomewhere(t *testing.T) {
	t.Parallel()
	for _, document := range tree(t, ".md") {
		for _, m := range link.FindAllStringSubmatch(read(t, document), -1) {
			text, target := m[1], m[2]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			file := path.Join(path.Dir(document), target)
			if _, err := os.Stat(filepath.FromSlash(file)); err != nil {
				t.Errorf("%s links to %s, which does not exist", document, file)
				continue
			}
			symbol, quoted := strings.CutPrefix(text, "`")
			symbol = strings.TrimSuffix(symbol, "`")
			if quoted && !strings.ContainsAny(symbol, "/ ") && symbol != path.Base(file) &&
				!slices.Contains(declared(t, file), symbol) {
				t.Errorf("%s: %s declares no %s", document, file, symbol)
			}
		}
	}
}

// declared lists the names that a file declares: Go's top level, methods also as Type.Method, sqlc's
// queries, and what migrations create.
func declared(t *testing.T, file string) []string {
	t.Helper()
	var names []string
	switch path.Ext(file) {
	case ".sql":
		pattern := regexp.MustCompile(`(?m)^(?:-- name: |CREATE (?:FUNCTION|TABLE|TRIGGER|INDEX) )(\w+)`)
		for _, m := range pattern.FindAllStringSubmatch(read(t, file), -1) {
			names = append(names, m[1])
		}
	case ".go":
		for _, d := range parse(t, file, 0).Decls {
			names = append(names, namesOf(d)...)
		}
	}
	return names
}

func namesOf(d ast.Decl) []string {
	if f, ok := d.(*ast.FuncDecl); ok {
		names := []string{f.Name.Name}
		if f.Recv != nil {
			names = append(names, receiver(f.Recv.List[0].Type)+"."+f.Name.Name)
		}
		return names
	}
	var names []string
	if g, ok := d.(*ast.GenDecl); ok {
		for _, spec := range g.Specs {
			if s, ok := spec.(*ast.TypeSpec); ok {
				names = append(names, s.Name.Name)
			}
			if s, ok := spec.(*ast.ValueSpec); ok {
				for _, name := range s.Names {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

// receiver is the name of a receiver's type, without star and type parameters.
func receiver(e ast.Expr) string {
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if generic, ok := e.(*ast.IndexExpr); ok {
		e = generic.X
	}
	if name, ok := e.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

func TestEveryProblemIsExplained(t *testing.T) {
	t.Parallel()
	page := read(t, "docs/errors.md")
	for _, m := range problem.Table() {
		require.Regexp(t, `(?m)^#+ .*\b`+string(m.Code)+`\b`, page, "docs/errors.md needs a heading for it")
	}
}

const modesPage = "docs/modes.md"

func TestGeneratedTablesOfTheModesAreCurrent(t *testing.T) {
	t.Parallel()
	p, err := mode.Load("")
	require.NoError(t, err)
	page := between(t, read(t, modesPage), "matrix", matrixOf(p))
	compareOrWrite(t, modesPage, between(t, page, "thresholds", thresholdsOf(p)))
}

// between puts a text between the marks of its name.
func between(t *testing.T, page, name, text string) string {
	t.Helper()
	before, rest, begins := strings.Cut(page, "<!-- begin "+name+" -->\n")
	_, after, ends := strings.Cut(rest, "<!-- end "+name+" -->\n")
	require.True(t, begins && ends, "docs/modes.md has marks for its %s", name)
	return before + "<!-- begin " + name + " -->\n" + text + "<!-- end " + name + " -->\n" + after
}

// matrixOf is what each mode makes of each work and flow.
func matrixOf(p *mode.Policy) string {
	var b strings.Builder
	b.WriteString("| work or flow | normal | constrained | protection | frozen |\n|---|---|---|---|---|\n")
	line := func(name, normal string, cell func(mode.Mode) string) {
		fmt.Fprintf(&b, "| `%s` | %s |", name, normal)
		for _, m := range mode.Degraded() {
			fmt.Fprintf(&b, " %s |", cell(m))
		}
		b.WriteString("\n")
	}
	for _, w := range mode.Works() {
		line(string(w), string(mode.All), func(m mode.Mode) string { return string(p.Requests[w][m]) })
	}
	for _, f := range mode.Flows() {
		line(string(f), string(mode.Run), func(m mode.Mode) string { return string(p.Flows[f][m]) })
	}
	line("retry_after", "", func(m mode.Mode) string { return p.RetryAfter[m].String() })
	return b.String()
}

// thresholdsOf is from where each signal speaks for a level, and below which it speaks for leaving it.
func thresholdsOf(p *mode.Policy) string {
	var b strings.Builder
	b.WriteString("| signal | constrained from | left below | protection from | left below |\n" +
		"|---|---|---|---|---|\n")
	for _, s := range mode.Signals() {
		fmt.Fprintf(&b, "| `%s` |", s)
		for _, level := range mode.Levels()[1:] {
			if at, ok := p.Levels[level][s]; ok {
				fmt.Fprintf(&b, " %g | %g |", at.Enter, at.Leave)
			} else {
				b.WriteString(" | |")
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestThePageOfTheModesExplainsEverySignalAndWork(t *testing.T) {
	t.Parallel()
	page := read(t, modesPage)
	for _, s := range mode.Signals() {
		require.Equal(t, 2, strings.Count(page, "\n| `"+string(s)+"` |"), "what %s is, and its thresholds", s)
	}
	for _, w := range mode.Works() {
		require.Equal(t, 2, strings.Count(page, "\n| `"+string(w)+"` |"), "what %s is, and who passes", w)
	}
}
