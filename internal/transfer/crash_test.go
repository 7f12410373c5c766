package transfer_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fault"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// crash is a job kind with the points at which its worker can break, and a transfer that needs it next.
type crash struct {
	kind    string
	points  []string
	prepare func(t *testing.T, w world) uuid.UUID
}

func crashes() []crash {
	return []crash{
		{
			kind:   "transfer_screen",
			points: []string{transfer.FaultBeforeScreen, transfer.FaultAfterScreen, transfer.FaultAfterMove},
			prepare: func(t *testing.T, w world) uuid.UUID {
				t.Helper()
				return w.Create(t, "k1", 250)
			},
		},
		{
			kind:   "transfer_settle",
			points: []string{transfer.FaultBeforeSettle, transfer.FaultAfterMove},
			prepare: func(t *testing.T, w world) uuid.UUID {
				t.Helper()
				id := w.inReview(t, "k1", 250)
				w.act(t, "a1", id, transfer.Approve, "fine")
				return id
			},
		},
		{
			kind: "transfer_payout",
			points: []string{
				transfer.FaultBeforePayout, transfer.FaultAfterPayout, transfer.FaultAfterMove,
			},
			prepare: func(t *testing.T, w world) uuid.UUID {
				t.Helper()
				id := w.createPayout(t, "k1", 250)
				require.True(t, w.runOne(t.Context(), t))
				require.Equal(t, transfer.Settling, w.Get(t, id).State)
				return id
			},
		},
		{
			kind:   "transfer_notify",
			points: []string{transfer.FaultBeforeNotify, transfer.FaultAfterNotify, transfer.FaultAfterNote},
			prepare: func(t *testing.T, w world) uuid.UUID {
				t.Helper()
				id := w.Create(t, "k1", 250)
				require.True(t, w.runOne(t.Context(), t))
				return id
			},
		},
	}
}

// ways are how a step breaks.
func ways() map[string]func() error {
	return map[string]func() error{
		"error": func() error { return fault.ErrInjected },
		"panic": func() error { panic("the process breaks here") },
	}
}

// breaking is a context in which a point breaks, each time it is passed.
func breaking(ctx context.Context, point string, way func() error) (context.Context, *int) {
	hits := 0
	return fault.With(ctx, func(name string) error {
		if name != point {
			return nil
		}
		hits++
		return way()
	}), &hits
}

// requireOneEffect says that a transfer came to its end as if nothing had happened.
func (w world) requireOneEffect(t *testing.T, id uuid.UUID) {
	t.Helper()
	got := w.Get(t, id)
	require.Equal(t, transfer.Settled, got.State)
	require.Equal(t, transfer.NotificationSent, got.Notification)
	left := w.Count(t, "SELECT count(*) FROM transfers WHERE wake_at IS NOT NULL")
	require.Zero(t, left)
	require.Equal(t, 1, w.Risk.Calls(w.screenKey(id)).Effects)
	require.Equal(t, 1, w.Notify.Calls(w.notifyKey(id)).Effects)
	from, held := w.Balance(t, w.From)
	require.Equal(t, []int64{transfertest.Funds - 250, 0}, []int64{from, held})
	if got.Payout {
		require.Equal(t, 1, w.Rail.Paid(id.String()))
	} else {
		to, _ := w.Balance(t, w.To)
		require.Equal(t, transfertest.Funds+250, to)
	}
	w.CheckInvariants(t)
}

// requireNothingBlind says that nothing was sent again before it was asked about.
func (w world) requireNothingBlind(t *testing.T) {
	t.Helper()
	for key, calls := range w.Risk.Journal() {
		require.Zero(t, calls.Blind, key)
	}
	for key, calls := range w.Notify.Journal() {
		require.Zero(t, calls.Blind, key)
	}
	for key, calls := range w.Rail.Journal() {
		require.LessOrEqual(t, calls.Sends, 1, key)
	}
}

func TestFailsAtEachStep(t *testing.T) {
	t.Parallel()
	for _, c := range crashes() {
		for _, point := range c.points {
			for name, way := range ways() {
				t.Run(c.kind+"/"+point+"/"+name, func(t *testing.T) {
					t.Parallel()
					w := newWorld(t)
					id := c.prepare(t, w)
					ctx, hits := breaking(t.Context(), point, way)
					w.run(ctx, t)
					require.Positive(t, *hits, "the step never came to the point")
					w.sweep(t)
					w.runAll(t.Context(), t)
					w.requireOneEffect(t, id)
					w.requireNothingBlind(t)
				})
			}
		}
	}
}

func TestAJobThatIsTakenOverGoesOnWhereTheStepBroke(t *testing.T) {
	t.Parallel()
	for _, c := range crashes() {
		for _, point := range c.points {
			t.Run(c.kind+"/"+point, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				id := c.prepare(t, w)
				ctx, hits := breaking(t.Context(), point, ways()["error"])
				require.True(t, w.runOne(ctx, t))
				require.Positive(t, *hits)
				w.Exec(t, `UPDATE river_job SET state = 'available', finalized_at = NULL
				            WHERE kind = $1 AND state = 'completed'`, c.kind)
				w.runAll(t.Context(), t)
				w.requireOneEffect(t, id)
				w.requireNothingBlind(t)
			})
		}
	}
}

func TestRepeatsEachStep(t *testing.T) {
	t.Parallel()
	for _, c := range crashes() {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			id := c.prepare(t, w)
			var args []byte
			require.NoError(t, w.Pool.QueryRow(t.Context(), `SELECT args FROM river_job
			  WHERE kind = $1 AND state = 'available' ORDER BY scheduled_at LIMIT 1`, c.kind).Scan(&args))
			services := w.processes(t)
			for range 2 { // at once in two processes, and then again
				for _, err := range together(4, func(i int) error {
					return services[i%2].RunJob(t.Context(), c.kind, int64(i), 1, args)
				}) {
					require.NoError(t, err)
				}
			}
			w.runAll(t.Context(), t)
			w.requireOneEffect(t, id)
		})
	}
}

func TestReplaysWhole(t *testing.T) {
	t.Parallel()
	for _, c := range crashes() {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			id := c.prepare(t, w)
			w.runAll(t.Context(), t)
			w.requireOneEffect(t, id)
			before, row := w.tables(t), w.Get(t, id)
			risk, notify := w.Risk.Journal(), w.Notify.Journal()

			w.Exec(t, `UPDATE river_job
			              SET state = 'available', finalized_at = NULL, attempt = 0, scheduled_at = now()`)
			require.Positive(t, w.run(t.Context(), t))
			require.Equal(t, before, w.tables(t))
			require.Equal(t, row, w.Get(t, id))
			require.Equal(t, risk, w.Risk.Journal(), "nobody is even asked")
			require.Equal(t, notify, w.Notify.Journal())
			w.requireOneEffect(t, id)
		})
	}
}

// TestEveryPointAndJobKindIsInTheCrashTable reads the sources, so that a new one cannot be forgotten.
func TestEveryPointAndJobKindIsInTheCrashTable(t *testing.T) {
	t.Parallel()
	known := map[string]bool{transfer.FaultAfterAccept: true} // TestACrashBetweenCommitAndReplyIsReplayed
	for _, c := range crashes() {
		known[c.kind] = true
		for _, point := range c.points {
			known[point] = true
		}
	}
	points, kinds := declared(t)
	require.GreaterOrEqual(t, len(points), 8)
	require.GreaterOrEqual(t, len(kinds), 3)
	for _, name := range append(points, kinds...) {
		require.True(t, known[name], "%s has no crash test", name)
	}
}

// declared lists the values of the constants named fault… and what the methods named Kind return.
func declared(t *testing.T) ([]string, []string) {
	t.Helper()
	var points, kinds []string
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if value, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(value.Names[0].Name, "fault") {
				points = append(points, literal(t, value.Values[0]))
			}
			if method, ok := n.(*ast.FuncDecl); ok && method.Name.Name == "Kind" {
				result, ok := method.Body.List[0].(*ast.ReturnStmt)
				require.True(t, ok)
				kinds = append(kinds, literal(t, result.Results[0]))
			}
			return true
		})
	}
	return points, kinds
}

func literal(t *testing.T, e ast.Expr) string {
	t.Helper()
	lit, ok := e.(*ast.BasicLit)
	require.True(t, ok)
	text, err := strconv.Unquote(lit.Value)
	require.NoError(t, err)
	return text
}
