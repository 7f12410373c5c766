// Package holdfast_test holds the repository to the rules that no linter knows: what has to be named,
// listed or generated somewhere else, is. It needs neither a database nor the network.
package holdfast_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	fileMaxLines       = 400
	makeTargetsMax     = 20
	readingPathMaxFile = 8
)

// update makes the tests of generated pages write them instead of comparing.
var update = flag.Bool("update", false, "write the generated pages of docs/")

// generatedMark is what the Go tools look for.
var generatedMark = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// tree lists the files of the repository that end in one of the suffixes.
func tree(t *testing.T, suffixes ...string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", ".holdfast", "bin", "testdata"}, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if slices.Contains(suffixes, filepath.Ext(path)) {
			files = append(files, filepath.ToSlash(path))
		}
		return nil
	})
	require.NoError(t, err)
	return files
}

func read(t *testing.T, path string) string {
	t.Helper()
	body, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(body)
}

func parse(t *testing.T, path string, mode parser.Mode) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, mode)
	require.NoError(t, err)
	return file
}

// handwritten are the Go files that a person wrote.
func handwritten(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, path := range tree(t, ".go") {
		if !generatedMark.MatchString(read(t, path)) {
			files = append(files, path)
		}
	}
	return files
}

func isTest(path string) bool { return strings.HasSuffix(path, "_test.go") }

func TestEveryPackageHasOnePackageDoc(t *testing.T) {
	t.Parallel()
	docs := map[string][]string{}
	for _, path := range handwritten(t) {
		if isTest(path) {
			continue
		}
		dir := filepath.Dir(path)
		if docs[dir] == nil {
			docs[dir] = []string{}
		}
		if parse(t, path, parser.PackageClauseOnly|parser.ParseComments).Doc.Text() != "" { // no directive
			docs[dir] = append(docs[dir], path)
		}
	}
	for dir, files := range docs {
		if len(files) != 1 {
			t.Errorf("%s: one file has to carry the package's doc, these do: %v", dir, files)
		}
	}
}

func TestFilesFitTheirLimit(t *testing.T) {
	t.Parallel()
	for _, path := range handwritten(t) { // the linter bounds the code of test files
		if lines := strings.Count(read(t, path), "\n"); lines > fileMaxLines && !isTest(path) {
			t.Errorf("%s has %d lines, more than %d", path, lines, fileMaxLines)
		}
	}
}

func TestNamesSayWhatIsInside(t *testing.T) {
	t.Parallel()
	vague := regexp.MustCompile(`(^|/)(utils?|common|helpers?|misc)(_test)?(/|\.|$)`)
	for _, path := range tree(t, ".go", ".sql", ".sh", ".md") {
		if vague.MatchString(path) {
			t.Errorf("%s: name it after what it holds", path)
		}
	}
}

func TestLaterWorkNamesItsIssue(t *testing.T) {
	t.Parallel()
	mark := regexp.MustCompile(`(?:^|[^.\w])(TO` + `DO|FIX` + `ME)\b(\(#\d+\))?`)
	for _, path := range tree(t, ".go", ".sql", ".sh") {
		for _, m := range mark.FindAllStringSubmatch(read(t, path), -1) {
			if m[2] == "" {
				t.Errorf("%s: %s has to name an issue: %s(#1)", path, m[1], m[1])
			}
		}
	}
}

func TestModulesReplaceNothing(t *testing.T) {
	t.Parallel()
	modules := tree(t, ".mod")
	require.Contains(t, modules, "go.mod")
	for _, path := range modules {
		require.NotRegexp(t, `(?m)^\s*replace\b|^\s*\S+ .*=>`, read(t, path), path)
	}
}

// TestCommandsLinkNoTestCode keeps test libraries out of every command, and what `ctl up` starts out of
// the others. ctl alone may link testing: the library that downloads a PostgreSQL imports it.
func TestCommandsLinkNoTestCode(t *testing.T) {
	t.Parallel()
	ever := regexp.MustCompile(
		`^(github\.com/(stretchr/testify|nats-io/nats-server)|pgregory\.net/rapid)|/internal/pgtest$`)
	inProduction := regexp.MustCompile(`^testing$|/internal/privatepg|/loadtest/`)
	commands, err := filepath.Glob("cmd/*")
	require.NoError(t, err)
	require.NotEmpty(t, commands)
	for _, command := range commands {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+command).Output()
		require.NoError(t, err)
		for dep := range strings.FieldsSeq(string(out)) {
			if ever.MatchString(dep) || inProduction.MatchString(dep) && filepath.Base(command) != "ctl" {
				t.Errorf("%s links %s", command, dep)
			}
		}
	}
}

// makeTargets maps the targets of the Makefile that help prints to their help.
func makeTargets(t *testing.T) map[string]string {
	t.Helper()
	targets := map[string]string{}
	explained := regexp.MustCompile(`(?m)^([a-z-]+):.*## (.+)$`)
	for _, m := range explained.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[m[1]] = m[2]
	}
	return targets
}

func TestMakefileStaysShort(t *testing.T) {
	t.Parallel()
	targets := makeTargets(t)
	require.NotEmpty(t, targets)
	require.LessOrEqual(t, len(targets), makeTargetsMax)
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		require.Contains(t, targets, m[1], "a target without help")
	}
}

func TestDocumentsNameTargetsThatExist(t *testing.T) {
	t.Parallel()
	targets := makeTargets(t)
	command := regexp.MustCompile("(?m)(?:`|^\\s*\\$? ?)make ([a-z][a-z-]*)")
	for _, path := range tree(t, ".md") {
		for _, m := range command.FindAllStringSubmatch(read(t, path), -1) {
			if targets[m[1]] == "" {
				t.Errorf("%s names `make %s`, which the Makefile does not have", path, m[1])
			}
		}
	}
}

func TestContinuousIntegrationRunsTargetsThatExist(t *testing.T) {
	t.Parallel()
	targets := makeTargets(t)
	steps := regexp.MustCompile(`(?m)^step make ([a-z-]+)\b`).FindAllStringSubmatch(read(t, ".ci/run"), -1)
	require.NotEmpty(t, steps)
	for _, m := range steps {
		require.Contains(t, targets, m[1])
	}
}

// compareOrWrite holds a generated page to what it is generated from.
func compareOrWrite(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		return
	}
	if got := read(t, path); got != want {
		line := firstDifference(got, want)
		t.Errorf("%s is not current; run: make generate\nfirst difference: %s", path, line)
	}
}

func firstDifference(got, want string) string {
	a, b := bytes.Split([]byte(got), []byte("\n")), bytes.Split([]byte(want), []byte("\n"))
	for i := range min(len(a), len(b)) {
		if !bytes.Equal(a[i], b[i]) {
			return fmt.Sprintf("line %d: has %q, has to be %q", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("it has %d lines, and has to have %d", len(a), len(b))
}
