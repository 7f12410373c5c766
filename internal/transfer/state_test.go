package transfer_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/transfer"
)

func TestTheDatabaseHoldsTheSameTableOfMoves(t *testing.T) {
	t.Parallel()
	const read = "SELECT from_state, event, to_state FROM transfer_transitions"
	rows, err := pgtest.New(t).Query(t.Context(), read)
	require.NoError(t, err)
	type edge struct{ From, Event, To string }
	stored, err := pgx.CollectRows(rows, pgx.RowToStructByPos[edge])
	require.NoError(t, err)
	var table []edge
	for _, e := range transfer.Transitions.Edges() {
		table = append(table, edge{string(e.From), string(e.Event), string(e.To)})
	}
	require.ElementsMatch(t, table, stored)
}

func ExampleState_Terminal() {
	for _, e := range []transfer.Event{transfer.Approve, transfer.Settle, transfer.Cancel} {
		next, err := transfer.Transitions.Next(transfer.Approved, e)
		fmt.Println(e, next, next.Terminal(), err)
	}
	// Output:
	// approve approved false illegal transition: approve in state approved
	// settle settled true <nil>
	// cancel canceled true <nil>
}
