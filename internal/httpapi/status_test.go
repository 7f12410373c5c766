package httpapi

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/problem"
)

// statusOf asks a process that has these conditions and checks for its status.
func statusOf(t *testing.T, active []condition.Active, checks ...Check) adminapi.Status {
	t.Helper()
	b := setupAdmin(t, func(c *Config) {
		c.Self = Self{
			Instance: "worker-1", Version: "v1", Conditions: func() []condition.Active { return active },
		}
		c.Checks = checks
	})
	a := b.do(t, exchange{method: get, path: "/admin/v1/status", key: "viewer"})
	require.Equal(t, http.StatusOK, a.Code, a.text)
	return decoded[adminapi.Status](t, a)
}

func TestStatusShowsWhatIsWrongTheWorstFirst(t *testing.T) {
	t.Parallel()
	at := func(c condition.Condition, subject string, ago time.Duration) condition.Active {
		return condition.Active{Condition: c, Subject: subject, Since: noon.Add(-ago)}
	}
	s := statusOf(t, []condition.Active{
		at(condition.DeadLetters, "job", time.Hour), at(condition.BreakerOpen, "risk_api", time.Second),
		at(condition.PromisesLate, "order", time.Minute),
	})
	require.Equal(t, adminapi.StatusOverallCritical, s.Overall)
	require.Equal(t, "worker-1", s.Instance)
	require.Equal(t, "v1", s.Version)
	names := make([]string, len(s.Conditions))
	for i, c := range s.Conditions {
		names[i] = c.Name + " " + c.Subject
	}
	require.Equal(t, []string{"promises_late order", "breaker_open risk_api", "dead_letters job"}, names)
	want := condition.PromisesLate
	require.Equal(t, adminapi.Condition{
		Name: want.Name, Subject: "order", Severity: adminapi.ConditionSeverityCritical, Title: want.Title,
		Text: want.Text, Runbook: "docs/runbooks/promises-late.md", Since: noon.Add(-time.Minute),
	}, s.Conditions[0])
	require.Equal(t, adminapi.StatusOverallWarning, statusOf(t, []condition.Active{
		at(condition.DeadLetters, "job", time.Hour),
	}).Overall)
}

func TestAProcessThatDrainsIsNotReadyAndWell(t *testing.T) {
	t.Parallel()
	s := statusOf(t, nil,
		Check{Name: "serving", Run: func(context.Context) error { return errors.New("draining") }},
		Check{Name: "database", Run: func(context.Context) error { return nil }})
	require.Equal(t, adminapi.StatusOverallOk, s.Overall)
	require.False(t, s.Ready)
	require.Equal(t, []adminapi.ReadinessCheck{
		{Name: "serving", Error: "draining"}, {Name: "database", Ok: true},
	}, s.Checks)
	require.Empty(t, s.Conditions)
}

func TestStatusIsForWhoSignsIn(t *testing.T) {
	t.Parallel()
	b := setupAdmin(t)
	b.requireProblem(t, exchange{method: get, path: "/admin/v1/status", key: "none"}, problem.Unauthenticated)
	a := b.do(t, exchange{method: get, path: "/admin/v1/status", key: "viewer"})
	require.JSONEq(t, `{"overall":"ok","mode":"normal",
		"instance":"","version":"","ready":true,"checks":[],"conditions":[]}`,
		a.text)
}
