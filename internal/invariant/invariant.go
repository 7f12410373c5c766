// Package invariant says how a domain describes what always holds about its rows.
//
// It refuses to run anything: the domains list their invariants, reconcile and tests check them.
//
// Invariant: a statement of an Invariant reads one snapshot, changes nothing, and returns zero rows
// exactly while the invariant holds.
package invariant

// Invariant is one property of the stored data and the SQL that finds every break of it.
type Invariant struct {
	// Name identifies the invariant in metrics and reports: lower case with underscores.
	Name string
	// Doc says in a sentence what holds.
	Doc string
	// SQL returns one row for each break, with a text column named what that describes it.
	SQL string
}
