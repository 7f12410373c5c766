package holdfast_test

import (
	"go/ast"
	"go/token"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// seededTables hold what migrations wrote; nobody writes them afterwards.
var seededTables = []string{"order_transitions", "transfer_transitions"}

var (
	createTable = regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`)
	writesTable = regexp.MustCompile(`(?i)\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?:ONLY\s+)?(\w+)`)
	sqlComment  = regexp.MustCompile(`--.*`)
)

func TestEveryQueryFolderIsGeneratedForItsOwner(t *testing.T) {
	t.Parallel()
	config := read(t, "sqlc.yaml")
	queries := regexp.MustCompile(`queries: db/queries/(\w+)`).FindAllStringSubmatch(config, -1)
	outs := regexp.MustCompile(`out: (\S+?)[},\s]`).FindAllStringSubmatch(config, -1)
	require.Len(t, outs, len(queries))
	var owners []string
	for i, q := range queries {
		owner := q[1]
		owners = append(owners, owner)
		require.Equal(t, "internal/"+owner+"/internal/"+owner+"db", outs[i][1])
		require.DirExists(t, outs[i][1])
	}
	folders, err := os.ReadDir("db/queries")
	require.NoError(t, err)
	for _, folder := range folders {
		require.Contains(t, owners, folder.Name(), "sqlc.yaml does not know the folder")
	}
	require.Len(t, owners, len(folders))
}

// tables are those that the migrations create, and River's.
func tables(t *testing.T) []string {
	t.Helper()
	names := []string{"river_job"}
	for _, file := range tree(t, ".sql") {
		if path.Dir(file) == "db/migrations" {
			for _, m := range createTable.FindAllStringSubmatch(read(t, file), -1) {
				names = append(names, m[1])
			}
		}
	}
	return names
}

// writers maps each table to those whose SQL writes it.
func writers(t *testing.T, tables []string) map[string]map[string]bool {
	t.Helper()
	found := map[string]map[string]bool{}
	add := func(owner, sql string) {
		for _, m := range writesTable.FindAllStringSubmatch(sqlComment.ReplaceAllString(sql, ""), -1) {
			if !slices.Contains(tables, m[1]) {
				continue
			}
			if found[m[1]] == nil {
				found[m[1]] = map[string]bool{}
			}
			found[m[1]][owner] = true
		}
	}
	for _, file := range tree(t, ".sql") {
		if owner, ok := strings.CutPrefix(path.Dir(file), "db/queries/"); ok {
			add(owner, read(t, file))
		}
	}
	for _, file := range tree(t, ".go") {
		if l, owner := layerOf(path.Dir(file)); l.name != "test side" && !isTest(file) {
			for _, text := range stringsOf(t, file) {
				add(path.Base(owner), text)
			}
		}
	}
	return found
}

// stringsOf lists the string literals of a Go file.
func stringsOf(t *testing.T, file string) []string {
	t.Helper()
	var texts []string
	ast.Inspect(parse(t, file, 0), func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, err := strconv.Unquote(lit.Value)
			require.NoError(t, err)
			texts = append(texts, text)
		}
		return true
	})
	return texts
}

func TestEveryTableHasOneOwner(t *testing.T) {
	t.Parallel()
	names := tables(t)
	require.Greater(t, len(names), 5)
	found := writers(t, names)
	for _, table := range names {
		owners := slices.Sorted(maps.Keys(found[table]))
		switch {
		case slices.Contains(seededTables, table):
			require.Empty(t, owners, "%s is written by migrations only", table)
		case len(owners) != 1:
			t.Errorf("table %s has to be written by one owner, it has %v", table, owners)
		}
	}
	require.Equal(t, map[string]bool{"jobqueue": true}, found["river_job"])
}
