// Package condition declares what can be wrong with a running system, so that every place that warns
// (metrics, the admin API, an alert) says it by the same name and in the same words.
//
// It only declares. It refuses to judge, to keep state and to notify: whoever owns a resource judges it
// and reports an Active.
//
// Invariant: every condition is in All, under a name of its own.
package condition

import (
	"slices"
	"strings"
	"time"
)

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

// Runbook is the page that says what to do, as a path in the repository.
func (c Condition) Runbook() string {
	return "docs/runbooks/" + strings.ReplaceAll(c.Name, "_", "-") + ".md"
}

// Active is a condition that holds.
type Active struct {
	Condition Condition
	Subject   string // what it holds for, of a bounded set: the name of a dependency, say
	Since     time.Time
}

// Compare orders what holds: the most severe first, then what has held for longest.
func (a Active) Compare(b Active) int {
	if a.Condition.Severity != b.Condition.Severity {
		if a.Condition.Severity == Critical {
			return -1
		}
		return 1
	}
	return a.Since.Compare(b.Since)
}

// Overall is the worst severity of what holds, or "ok" where nothing does.
func Overall(active []Active) string {
	if len(active) == 0 {
		return "ok"
	}
	return string(slices.MinFunc(active, Active.Compare).Condition.Severity)
}
