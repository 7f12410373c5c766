package transfer_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fault"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// TestScenarios plays the stories in testdata. Each file is one world; go test -rewrite writes what the
// program says now. The commands are those of story.do.
func TestScenarios(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		t.Helper()
		t.Parallel()
		s := &story{world: newWorld(t), ids: map[string]uuid.UUID{}}
		s.accounts = map[string]uuid.UUID{"a": s.From, "b": s.To, "world": s.External}
		datadriven.RunTest(t, path, s.do)
	})
}

// story names the transfers of a world by the keys under which they were asked for.
type story struct {
	world
	ids      map[string]uuid.UUID
	accounts map[string]uuid.UUID
	crashAt  string
	crash    error
}

// do plays one command and says what a reader should see.
func (s *story) do(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "account": // account name=c funds=0
		s.accounts[arg(d, "name")] = s.Account(t, number(t, d, "funds"))
		return ""
	case "create", "bulk", "reverse", "cancel", "approve", "block":
		return s.ask(t, d)
	case "risk", "rail", "notify": // how the dependency answers, or how its next calls fail
		return s.script(t, d)
	case "finish": // finish k1 status=paid: the rail ends a pending payout
		t := s.Get(t, s.ids[d.CmdArgs[0].Key])
		s.Rail.Finish(railKey(t), payout.Receipt{Status: payout.Status(arg(d, "status"))})
		return ""
	case "arrive": // what was lost on its way to the rail arrives
		s.Rail.Arrive()
		return ""
	case "callback": // callback k1: the rail calls back
		about := s.Get(t, s.ids[d.CmdArgs[0].Key])
		require.NoError(t, s.Transfers.Wake(t.Context(), about.Ref, railKey(about)))
		return ""
	case "posture": // posture open-up-to=100
		_, err := s.Transfers.SetPosture(t.Context(), transfer.Posture{
			TenantID: s.Tenant, Currency: transfertest.Currency, OpenUpTo: number(t, d, "open-up-to"),
			Actor: "operator:test", Reason: "test",
		})
		require.NoError(t, err)
		return ""
	case "crash": // crash at=<point>: the next run breaks there
		s.crashAt, s.crash = arg(d, "at"), errors.New("broken")
		return ""
	case "stop": // stop at=<point>: the next run's worker stops there
		s.crashAt, s.crash = arg(d, "at"), context.Canceled
		return ""
	case "run": // works what is due, until nothing is
		return s.work(t)
	case "wait": // until the next wake-up
		s.wakeNow(t)
		return ""
	case "end-promise":
		s.endPromise(t)
		return ""
	case "lose-jobs":
		s.Exec(t, "DELETE FROM river_job")
		return ""
	case "sweep": // after the grace
		s.age(t, "1 minute")
		return fmt.Sprintf("woke %d\n", s.sweepOnce(t))
	case "transfer":
		return s.tell(t, d.CmdArgs[0].Key)
	case "balance":
		posted, held := s.Balance(t, s.accounts[d.CmdArgs[0].Key])
		return fmt.Sprintf("posted %d, held %d\n", posted, held)
	case "check":
		return s.check(t)
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return ""
}

func arg(d *datadriven.TestData, name string) string {
	for _, a := range d.CmdArgs {
		if a.Key == name {
			return strings.Join(a.Vals, " ")
		}
	}
	return ""
}

func number(t *testing.T, d *datadriven.TestData, name string) int64 {
	t.Helper()
	var n int64
	if arg(d, name) != "" {
		d.ScanArgs(t, name, &n)
	}
	return n
}

// ask sends a keyed request and says its answer.
func (s *story) ask(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	key, of := arg(d, "key"), s.ids[arg(d, "of")]
	var response idempotency.Response
	var err error
	switch d.Cmd {
	case "create":
		response, err = s.Transfers.Create(t.Context(), s.Request(key, s.item(t, d)))
	case "bulk":
		var items []transfer.New
		for line := range strings.Lines(d.Input) {
			cmd, args, err := datadriven.ParseLine("item " + line)
			require.NoError(t, err)
			items = append(items, s.item(t, &datadriven.TestData{Cmd: cmd, CmdArgs: args}))
		}
		response, err = s.Transfers.Create(t.Context(), s.Request(key, items...))
	case "reverse":
		response, err = s.Transfers.Reverse(t.Context(), s.Reversal(key, of, number(t, d, "amount")))
	default:
		event := transfer.Event(d.Cmd)
		response, err = s.Transfers.Act(t.Context(), s.Action(key, of, event, arg(d, "reason")))
		key = arg(d, "of") // an action makes no transfer
	}
	if err != nil {
		p := problem.Of(err)
		return fmt.Sprintf("%d %s\n", problem.MeaningOf(p.Code).Status, p.Code)
	}
	return s.answer(t, key, d.Cmd == "bulk", response)
}

func (s *story) item(t *testing.T, d *datadriven.TestData) transfer.New {
	t.Helper()
	item := s.Item(number(t, d, "amount"))
	item.FromAccount, item.ToAccount = s.accounts[arg(d, "from")], s.accounts[arg(d, "to")]
	item.ClientReference = arg(d, "reference")
	return item
}

// answer says a response, and remembers its transfers by key.
func (s *story) answer(t *testing.T, key string, bulk bool, r idempotency.Response) string {
	t.Helper()
	answers := []transfertest.Answer{}
	if bulk {
		answers = transfertest.ReadAll(t, r)
	} else {
		answers = append(answers, transfertest.Read(t, r))
	}
	var said strings.Builder
	fmt.Fprintf(&said, "%d", r.Status)
	for i, a := range answers {
		name := key
		if bulk {
			name = fmt.Sprintf("%s.%d", key, i+1)
			fmt.Fprintf(&said, "\n  %s", name)
		}
		fmt.Fprintf(&said, " %s%s", a.State, a.Code)
		if _, known := s.ids[name]; !known && a.Code == "" {
			s.ids[name] = a.ID
		}
	}
	if r.Replayed {
		said.WriteString(" (replayed)")
	}
	return said.String() + "\n"
}

// script says how a dependency answers from now on, or how its next calls fail.
func (s *story) script(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	answer := arg(d, "answer")
	switch {
	case answer != "" && d.Cmd == "rail":
		s.Rail.Answer(payout.Receipt{Status: payout.Status(answer), Reason: arg(d, "reason")})
		return ""
	case answer != "":
		s.Risk.Answer(risk.Outcome(answer), arg(d, "reason"))
		return ""
	}
	f := transfertest.Fault{Kind: outbound.Kind(arg(d, "next") + arg(d, "always")), Acts: d.HasArg("acts")}
	script := map[string]interface {
		Next(faults ...transfertest.Fault)
		Always(f transfertest.Fault)
	}{"risk": s.Risk, "rail": s.Rail, "notify": s.Notify}[d.Cmd]
	if d.HasArg("always") {
		script.Always(f)
	} else {
		script.Next(f)
	}
	return ""
}

// work runs what is due and says which transfers had which jobs, in the order of the kinds. How many
// share a job depends on how many shared a batch.
func (s *story) work(t *testing.T) string {
	t.Helper()
	var before time.Time
	require.NoError(t, s.Pool.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&before))
	s.run(s.breakable(t.Context()), t)
	rows, err := s.Pool.Query(t.Context(), `
SELECT j.kind, array_agg(DISTINCT named.id)
  FROM river_job j, jsonb_each(j.args -> 'transfers') AS e (tenant_id, ids),
       jsonb_array_elements_text(e.ids) AS named (id)
 WHERE j.finalized_at >= $1
 GROUP BY j.kind ORDER BY min(j.id)`, before)
	require.NoError(t, err)
	type worked struct {
		Kind string
		IDs  []string
	}
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[worked])
	require.NoError(t, err)
	var said strings.Builder
	for _, j := range jobs {
		var names []string
		for name, id := range s.ids {
			if slices.Contains(j.IDs, id.String()) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		fmt.Fprintf(&said, "%s %s\n", j.Kind, strings.Join(names, " "))
	}
	return cmp.Or(said.String(), "nothing is due\n")
}

// breakable breaks at the point of the last crash command, once.
func (s *story) breakable(ctx context.Context) context.Context {
	return fault.With(ctx, func(name string) error {
		if name != s.crashAt {
			return nil
		}
		s.crashAt = ""
		return s.crash
	})
}

// tell says all that is known of a transfer.
func (s *story) tell(t *testing.T, name string) string {
	t.Helper()
	got := s.Get(t, s.ids[name])
	var said strings.Builder
	fmt.Fprintf(&said, "%s, version %d", got.State, got.Version)
	for _, fact := range []struct{ name, value string }{
		{"reason", got.Reason},
		{"reversed", nonZero(got.Reversed)},
		{"attempts", nonZero(int64(got.Attempts))},
	} {
		if fact.value != "" {
			fmt.Fprintf(&said, ", %s %s", fact.name, fact.value)
		}
	}
	fmt.Fprintf(&said, "\nnotification %s\n", got.Notification)
	events, err := s.Transfers.Events(t.Context(), got.Ref, 0)
	require.NoError(t, err)
	for _, e := range events {
		fmt.Fprintf(&said, "  %d %s by %s\n", e.Seq, e.Type, e.Actor)
	}
	for _, c := range []struct {
		dependency string
		calls      transfertest.Calls
	}{{"risk", s.Risk.Calls(s.screenKey(got.ID))}, {"notify", s.Notify.Calls(s.notifyKey(got.ID))}} {
		fmt.Fprintf(&said, "%s: %d sent, %d asked, %d done\n",
			c.dependency, c.calls.Sends, c.calls.Finds, c.calls.Effects)
	}
	if got.Payout {
		calls := s.Rail.Calls(railKey(got))
		fmt.Fprintf(&said, "rail: reference %d, %d sent, %d asked, paid %d times\n",
			got.PayoutTry, calls.Sends, calls.Finds, s.Rail.Paid(got.ID.String()))
	}
	return said.String()
}

// railKey is the reference of a payout that is in use.
func railKey(t transfer.Transfer) string { return fmt.Sprintf("%s/payout/%d", t.ID, t.PayoutTry) }

func nonZero(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// check says every break of every invariant.
func (s *story) check(t *testing.T) string {
	t.Helper()
	var said strings.Builder
	for _, i := range append(ledger.Invariants(), transfer.Invariants()...) {
		for _, what := range s.Breaks(t, i) {
			fmt.Fprintf(&said, "%s: %s\n", i.Name, what)
		}
	}
	return cmp.Or(said.String(), "all invariants hold\n")
}
