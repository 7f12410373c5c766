package fsm_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fsm"
)

type (
	state string
	event string
	edge  = fsm.Edge[state, event]
)

func door(t *testing.T) fsm.Table[state, event] {
	t.Helper()
	table, err := fsm.New(
		edge{"open", "shut", "closed"},
		edge{"closed", "pull", "open"},
		edge{"closed", "lock", "locked"},
		edge{"open", "break", "broken"},
	)
	require.NoError(t, err)
	return table
}

func TestNextKnowsOnlyTheTable(t *testing.T) {
	t.Parallel()
	table := door(t)
	legal := map[string]state{
		"open shut": "closed", "open break": "broken", "closed pull": "open", "closed lock": "locked",
	}
	for _, from := range []state{"open", "closed", "locked", "broken", "ajar", ""} {
		for _, e := range []event{"shut", "pull", "lock", "break", "paint", ""} {
			to, err := table.Next(from, e)
			if want, ok := legal[fmt.Sprint(from, " ", e)]; ok {
				require.NoError(t, err)
				require.Equal(t, want, to)
				continue
			}
			var illegal *fsm.IllegalError
			require.ErrorAs(t, err, &illegal)
			require.Equal(t, fsm.IllegalError{From: string(from), Event: string(e)}, *illegal)
			require.Equal(t, from, to, "a refused move leads nowhere")
		}
	}
	_, err := table.Next("locked", "pull")
	require.EqualError(t, err, "illegal transition: pull in state locked")
}

func TestTerminalStatesHaveNoWayOut(t *testing.T) {
	t.Parallel()
	table := door(t)
	for s, want := range map[state]bool{
		"open": false, "closed": false, "locked": true, "broken": true, "ajar": false, "": false,
	} {
		require.Equal(t, want, table.Terminal(s), s)
	}
}

func TestListsAreCopies(t *testing.T) {
	t.Parallel()
	edges := []edge{{"a", "x", "b"}, {"b", "y", "c"}}
	table, err := fsm.New(edges...)
	require.NoError(t, err)
	edges[0].To = "z"
	table.Edges()[1].To = "z"
	require.Equal(t, []edge{{"a", "x", "b"}, {"b", "y", "c"}}, table.Edges(), "in the order of the table")
	require.Equal(t, []state{"a", "b", "c"}, table.States())
	require.Equal(t, []state{"broken", "closed", "locked", "open"}, door(t).States())
}

func TestADoubledEdgeIsRefused(t *testing.T) {
	t.Parallel()
	table, err := fsm.New(edge{"open", "shut", "closed"}, edge{"open", "shut", "locked"})
	require.EqualError(t, err, "edge open/shut is there twice")
	require.Empty(t, table.States())
}

func TestTheZeroTableAllowsNothing(t *testing.T) {
	t.Parallel()
	var table fsm.Table[state, event]
	_, err := table.Next("open", "shut")
	require.Error(t, err)
	require.False(t, table.Terminal("open"))
	require.Empty(t, table.Edges())
	require.Empty(t, table.States())
}

func ExampleTable_Mermaid() {
	table, err := fsm.New(edge{"open", "shut", "closed"}, edge{"closed", "lock", "locked"})
	if err != nil {
		return
	}
	fmt.Print(table.Mermaid("open"))
	// Output:
	// stateDiagram-v2
	//     [*] --> open
	//     open --> closed: shut
	//     closed --> locked: lock
	//     locked --> [*]
}
