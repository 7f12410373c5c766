package httpapi

import (
	"context"
	"slices"
	"sync"

	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/mode"
)

// Self is the process that a listener belongs to, and what is wrong as it sees it.
type Self struct {
	Instance, Version string
	// Conditions are those that hold now. Nil is none.
	Conditions func() []condition.Active
	// Mode is the one that the process acts by. Nil is Normal.
	Mode func() mode.Mode
}

// GetReadyz runs every check at once and says which parts are not ready.
func (s *adminServer) GetReadyz(
	ctx context.Context, _ adminapi.GetReadyzRequestObject,
) (adminapi.GetReadyzResponseObject, error) {
	out := s.ready(ctx)
	if !out.Ready {
		return adminapi.GetReadyz503JSONResponse(out), nil
	}
	return adminapi.GetReadyz200JSONResponse(out), nil
}

func (s *adminServer) ready(ctx context.Context) adminapi.Readiness {
	out := adminapi.Readiness{Ready: true, Checks: make([]adminapi.ReadinessCheck, len(s.cfg.Checks))}
	var group sync.WaitGroup
	for i, check := range s.cfg.Checks {
		group.Go(func() { out.Checks[i] = run(ctx, check) })
	}
	group.Wait()
	for _, check := range out.Checks {
		out.Ready = out.Ready && check.Ok
	}
	return out
}

// GetStatus tells what is wrong now, the worst first.
func (s *adminServer) GetStatus(
	ctx context.Context, _ adminapi.GetStatusRequestObject,
) (adminapi.GetStatusResponseObject, error) {
	var active []condition.Active
	if s.cfg.Self.Conditions != nil {
		active = s.cfg.Self.Conditions()
	}
	acting := mode.Normal
	if s.cfg.Self.Mode != nil {
		acting = s.cfg.Self.Mode()
	}
	slices.SortStableFunc(active, condition.Active.Compare)
	ready := s.ready(ctx)
	return adminapi.GetStatus200JSONResponse{
		Overall: adminapi.StatusOverall(condition.Overall(active)), Mode: adminapi.ModeName(acting),
		Instance: s.cfg.Self.Instance, Version: s.cfg.Self.Version, Ready: ready.Ready, Checks: ready.Checks,
		Conditions: renderConditions(active),
	}, nil
}

func renderConditions(active []condition.Active) []adminapi.Condition {
	out := make([]adminapi.Condition, len(active))
	for i, a := range active {
		c := a.Condition
		out[i] = adminapi.Condition{
			Name: c.Name, Subject: a.Subject, Severity: adminapi.ConditionSeverity(c.Severity),
			Title: c.Title, Text: c.Text, Runbook: c.Runbook(), Since: a.Since.UTC(),
		}
	}
	return out
}
