package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// commandOf finds `ctl …` between backquotes, over the end of a line too, and at the start of indented code.
var commandOf = regexp.MustCompile("`ctl ([^`]+)`|(?m)^ {4}ctl ([^#\n]+)")

// word is one of a command's arguments.
var word = regexp.MustCompile(`"([^"]*)"|(\S+)`)

// TestTheCommandsOfTheRunbooksExist parses them as ctl would. A page may leave out what depends on the case.
func TestTheCommandsOfTheRunbooksExist(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/runbooks/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range commandOf.FindAllStringSubmatch(string(text), -1) {
			found++
			require.NoError(t, parsed(t, m[1]+m[2]), "%s: ctl %s", page, m[1]+m[2])
		}
	}
	require.Greater(t, found, len(pages))
	require.Error(t, parsed(t, "webhook forget"))
	require.Error(t, parsed(t, "queues --unknown"))
	require.Error(t, parsed(t, "webhook"))
}

func parsed(t *testing.T, command string) error {
	t.Helper()
	var args []string
	for _, m := range word.FindAllStringSubmatch(command, -1) {
		args = append(args, m[1]+m[2])
	}
	k, err := kong.New(&cli{}, kong.Vars{"version": "", "data": ""}, kong.BindTo(t.Context(), (*context.Context)(nil)))
	require.NoError(t, err)
	if _, err = k.Parse(args); err != nil && (strings.HasPrefix(err.Error(), "missing flags") ||
		strings.HasPrefix(err.Error(), `expected "<`)) {
		return nil
	}
	return err
}
