package tracing_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/tracing"
)

func TestALineNamesTheTraceThatItIsOf(t *testing.T) {
	t.Parallel()
	ctx, _ := setup(t)
	within, span := tracing.Serve(ctx, "GET /", parentA)
	var out bytes.Buffer
	log := slog.New(tracing.Logged(slog.NewTextHandler(&out, nil)))
	for _, log := range []*slog.Logger{log, log.With(slog.Int("n", 1)), log.WithGroup("g")} {
		out.Reset()
		log.InfoContext(within, "inside")
		require.Contains(t, out.String(), "trace_id="+traceA)
		out.Reset()
		log.InfoContext(ctx, "outside")
		require.NotContains(t, out.String(), "trace_id")
	}
	span.End(nil)
	out.Reset()
	log.InfoContext(within, "afterwards")
	require.NotContains(t, out.String(), "trace_id", "what has ended is over")
	require.False(t, log.Enabled(ctx, slog.LevelDebug))
}
