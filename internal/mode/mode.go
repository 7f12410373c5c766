// Package mode degrades the service on purpose.
//
// A policy says, before anything fails, what each mode refuses and defers, and which signals switch it. The
// processes measure, one of them at a time judges, all of them follow: what is in force is one row in
// Postgres with a history, and an operator may override it with a reason and an end. A process that cannot
// read the row keeps the mode that it has.
//
// The package refuses to know requests, queues and dependencies by more than their names: app measures,
// httpapi refuses, and app defers. It never refuses draining work: what settles, releases, reads one thing,
// or repeats an answer is in no policy.
//
// Invariants: a process acts by one policy for as long as it runs; a switch of the controller goes one
// level up or down, after as many samples in a row as the policy says, and no sooner than its dwell after
// the last; every change has a row in the history, with its cause.
package mode

import (
	"slices"
	"time"

	"example.com/holdfast/internal/tenancy"
)

// Mode is how much the service does. The set is closed.
type Mode string

// The modes. Frozen is for recovery: no signal leads to it.
const (
	Normal      Mode = "normal"      // all
	Constrained Mode = "constrained" // what nobody waits for is deferred
	Protection  Mode = "protection"  // and traffic of low priority is refused
	Frozen      Mode = "frozen"      // writes that are not critical are refused
)

// Modes lists them.
func Modes() []Mode { return []Mode{Normal, Constrained, Protection, Frozen} }

// Degraded lists the modes that a policy speaks of: in Normal everything is done.
func Degraded() []Mode { return Modes()[1:] }

// Levels lists the modes that the controller knows, from the best to the worst.
func Levels() []Mode { return []Mode{Normal, Constrained, Protection} }

// Control is who decides the mode. The set is closed.
type Control string

// The controls.
const (
	Auto   Control = "auto"   // the mode is the level that the controller judges
	Pinned Control = "pinned" // an operator has said which, until a time
	Advise Control = "advise" // the controller judges and switches nothing: the mode is Normal
)

// Work is a kind of request that a mode may refuse. The set is closed; what is not in it always passes.
type Work string

// The kinds of work.
const (
	CreateTransfer Work = "create_transfer"
	CreateOrder    Work = "create_order"
	CreateOther    Work = "create_other"
	Change         Work = "change" // changes what is there, and releases nothing
	List           Work = "list"   // reads many, or tries out
)

// Works lists them.
func Works() []Work { return []Work{CreateTransfer, CreateOrder, CreateOther, Change, List} }

// Flow is work of the program itself that a mode may defer. The set is closed; what is not in it always runs.
type Flow string

// The flows.
const (
	Notifications Flow = "notifications"
	Webhooks      Flow = "webhooks"
	Broker        Flow = "broker"
)

// Flows lists them.
func Flows() []Flow { return []Flow{Notifications, Webhooks, Broker} }

// Pass is which traffic a mode lets pass: that of a class and of the ones above it. The set is closed.
type Pass string

// The passes, from the widest to the narrowest.
const (
	All          Pass = "all"
	StandardUp   Pass = "standard"
	CriticalOnly Pass = "critical"
	Nobody       Pass = "nobody"
)

func passes() []Pass { return []Pass{All, StandardUp, CriticalOnly, Nobody} }

// narrower says whether p lets less pass than q.
func (p Pass) narrower(q Pass) bool { return slices.Index(passes(), p) > slices.Index(passes(), q) }

// admits says whether traffic of a class passes. A class that is none counts as standard.
func (p Pass) admits(class tenancy.Class) bool {
	switch p {
	case All:
		return true
	case StandardUp:
		return class != tenancy.Sheddable
	case CriticalOnly:
		return class == tenancy.Critical
	case Nobody:
	}
	return false
}

// State is what is in force, as a process has read it.
type State struct {
	// Version counts the changes.
	Version int64
	// Mode is what is in force since Since, and Before what was before it.
	Mode, Before Mode
	Since        time.Time
	// Level is what the controller judges since LevelSince.
	Level      Mode
	LevelSince time.Time
	Control    Control
	// Actor and Reason say who made the latest change, and why. ExpiresAt is when an override ends, or zero.
	Actor, Reason string
	ExpiresAt     time.Time
	// Policy is the hash of the policy by which was judged last, or "".
	Policy string
	// Now is Postgres's clock at the read; all times are by it.
	Now time.Time

	judgedAt time.Time
}

// Overridden says whether a person has decided who decides.
func (s State) Overridden() bool { return !s.ExpiresAt.IsZero() }

// overdue says whether an override has run out that is still in force.
func (s State) overdue() bool { return s.Overridden() && !s.Now.Before(s.ExpiresAt) }

// Controller is the actor of what no person did.
const Controller = "controller"

// inForce is the mode that a level and a control make; pinned is what an operator has said.
func inForce(control Control, level, pinned Mode) Mode {
	switch control {
	case Auto:
		return level
	case Pinned:
		return pinned
	case Advise:
	}
	return Normal
}
