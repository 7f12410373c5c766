// Package condition declares what can be wrong with a running system, so that every place that warns
// (metrics, the admin API, an alert) says it by the same name and in the same words.
//
// It only declares. It refuses to judge, to keep state and to notify: whoever owns a resource judges it
// and reports an Active.
//
// Invariant: every condition is in All, under a name of its own.
package condition

import "time"

// Severity says how soon somebody has to look. The set is closed.
type Severity string

// The severities.
const (
	Warning  Severity = "warning"  // the promises still hold
	Critical Severity = "critical" // they do not, or not for long
)

// Condition is one thing that can be wrong.
type Condition struct {
	Name     string // stable, a metric label
	Title    string
	Text     string // what it means and what to look at
	Severity Severity
}

// Active is a condition that holds.
type Active struct {
	Condition Condition
	Subject   string // what it holds for, of a bounded set: the name of a dependency, say
	Since     time.Time
}

// The conditions.
//
//nolint:gochecknoglobals // declared values, never changed
var (
	DependencySaturated = Condition{
		Name:  "dependency_saturated",
		Title: "A dependency has been used to its limit for a while",
		Text: "Calls in flight and waiting have been at 90 % of the effective limit or more for 30 " +
			"seconds. Work for this dependency queues. If the effective limit is below the cap, the " +
			"dependency is overloaded; if not, the limit is too small for the load or the dependency " +
			"has become slow.",
		Severity: Warning,
	}
	BreakerOpen = Condition{
		Name:  "breaker_open",
		Title: "A dependency fails and is not asked",
		Text: "At least half of the recent calls failed. Calls are refused until probes succeed, and what " +
			"needs the dependency waits. Look at the dependency first.",
		Severity: Critical,
	}
	BrokerAway = Condition{
		Name:  "broker_away",
		Title: "The broker does not take events",
		Text: "There is no connection to the broker, or it refuses what it is given. Consumers of the " +
			"stream hear nothing new. Nothing is lost: events wait in the log, for as long as it keeps " +
			"them, and go out when the broker is back.",
		Severity: Warning,
	}
)

// All returns every condition.
func All() []Condition { return []Condition{DependencySaturated, BreakerOpen, BrokerAway} }
