// Package fsm is a table of legal moves between states.
//
// It refuses to hold a current state, to run effects or to know what the states mean: it answers
// whether a move is legal, and where it leads.
//
// Invariant: from one state an event leads to at most one state, and no move leaves a state that
// is not the start of any edge (a terminal state).
package fsm

import (
	"fmt"
	"slices"
	"strings"
)

// Edge is one legal move.
type Edge[S, E ~string] struct {
	From  S
	Event E
	To    S
}

// Table is a set of edges. The zero Table allows nothing.
type Table[S, E ~string] struct {
	edges []Edge[S, E]
	next  map[S]map[E]S
	seen  map[S]bool
}

// IllegalError says which move was refused.
type IllegalError struct {
	From, Event string
}

// Error names the move.
func (e *IllegalError) Error() string {
	return fmt.Sprintf("illegal transition: %s in state %s", e.Event, e.From)
}

// New builds a table; two edges with one start and one event are a programming error, and the
// second is reported.
func New[S, E ~string](edges ...Edge[S, E]) (Table[S, E], error) {
	t := Table[S, E]{edges: slices.Clone(edges), next: map[S]map[E]S{}, seen: map[S]bool{}}
	for _, e := range edges {
		if t.next[e.From] == nil {
			t.next[e.From] = map[E]S{}
		}
		if _, double := t.next[e.From][e.Event]; double {
			return Table[S, E]{}, fmt.Errorf("edge %s/%s is there twice", e.From, e.Event)
		}
		t.next[e.From][e.Event] = e.To
		t.seen[e.From], t.seen[e.To] = true, true
	}
	return t, nil
}

// Next answers where event leads from state, or an *IllegalError.
func (t Table[S, E]) Next(from S, event E) (S, error) {
	to, ok := t.next[from][event]
	if !ok {
		return from, &IllegalError{From: string(from), Event: string(event)}
	}
	return to, nil
}

// Terminal says whether no move leaves the state; an unknown state is not terminal.
func (t Table[S, E]) Terminal(state S) bool {
	return t.seen[state] && len(t.next[state]) == 0
}

// Edges lists the legal moves in the order of the table.
func (t Table[S, E]) Edges() []Edge[S, E] { return slices.Clone(t.edges) }

// States lists every state once, sorted.
func (t Table[S, E]) States() []S {
	states := make([]S, 0, len(t.seen))
	for s := range t.seen {
		states = append(states, s)
	}
	slices.Sort(states)
	return states
}

// Mermaid draws the table as a state diagram that starts in start.
func (t Table[S, E]) Mermaid(start S) string {
	var b strings.Builder
	fmt.Fprintf(&b, "stateDiagram-v2\n    [*] --> %s\n", start)
	for _, e := range t.edges {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", e.From, e.To, e.Event)
	}
	for _, s := range t.States() {
		if t.Terminal(s) {
			fmt.Fprintf(&b, "    %s --> [*]\n", s)
		}
	}
	return b.String()
}
