package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

func parse(t *testing.T, args ...string) (*flags, error) {
	t.Helper()
	c := &cli{}
	parser, err := kong.New(c, options()...)
	require.NoError(t, err)
	_, err = parser.Parse(args)
	return &c.Serve, err
}

func TestKnobsComeFromTextOrFileNotBoth(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "knobs.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"error_rate":3}`), 0o600))

	f, err := parse(t, "--addr=127.0.0.1:0", "--knobs-file="+file)
	require.NoError(t, err)
	require.ErrorContains(t, f.run(t.Context(), io.Discard), "error_rate 3 is not between 0 and 1")

	f, err = parse(t, "--addr=127.0.0.1:0", `--knobs={"seeed":1}`)
	require.NoError(t, err)
	require.ErrorContains(t, f.run(t.Context(), io.Discard), "seeed")

	_, err = parse(t, "--knobs={}", "--knobs-file="+file)
	require.Error(t, err)
}

func TestItServesUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	f, err := parse(t, "--addr=127.0.0.1:0", `--knobs={"seed":7}`)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- f.run(ctx, write) }()

	var line struct {
		Msg string `json:"msg"`
		URL string `json:"url"`
	}
	require.NoError(t, json.NewDecoder(read).Decode(&line))
	require.Equal(t, "listening", line.Msg)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, line.URL+"/knobs", http.NoBody)
	require.NoError(t, err)
	reply, err := new(http.Transport).RoundTrip(request)
	require.NoError(t, err)
	defer func() { _ = reply.Body.Close() }()
	body, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `"seed":7`)
	health := healthcheckCmd{URL: line.URL}
	require.NoError(t, health.run(ctx))

	cancel()
	require.NoError(t, <-ended)
	require.Error(t, health.run(t.Context()))
}
