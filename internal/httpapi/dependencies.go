package httpapi

import (
	"context"
	"net/http"
	"time"

	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/idempotency"
)

// Dependency is a dependency as operators see it.
type Dependency struct {
	Name string
	// Limit is the one in force, or nil as long as no process has written one down.
	Limit   *Limit
	Holders []Holder
	// Door is nil where this process does not call the dependency.
	Door       *Door
	Conditions []condition.Active
}

// Limit is a version of how many calls may be in flight over all processes together.
type Limit struct {
	Places, Version int
	Actor, Reason   string
	SetAt           time.Time
}

// Holder is a process that has places.
type Holder struct {
	Name   string
	Places int
}

// Door is how this process sees a dependency.
type Door struct {
	// Breaker is closed, half_open or open, since BreakerSince unless it is closed.
	Breaker      string
	BreakerSince time.Time
	InFlight     int
	Waiting      int
	// Limit is how many calls may be in flight now, of the Places that the process has.
	Limit, Places int
	P95           time.Duration
}

// LimitChange is a new limit for a dependency.
type LimitChange struct {
	Dependency    string
	Places        int
	Actor, Reason string
}

// Dependencies tells how the dependencies are, and changes their limits.
type Dependencies interface {
	Dependencies(ctx context.Context) ([]Dependency, error)
	SetLimit(
		ctx context.Context, key idempotency.Keyed, c LimitChange, render func(Limit) idempotency.Response,
	) (idempotency.Response, error)
}

// ListDependencies tells how the dependencies are.
func (s *adminServer) ListDependencies(
	ctx context.Context, _ adminapi.ListDependenciesRequestObject,
) (adminapi.ListDependenciesResponseObject, error) {
	found, err := s.cfg.Dependencies.Dependencies(ctx)
	if err != nil {
		return nil, err
	}
	out := adminapi.ListDependencies200JSONResponse{Dependencies: make([]adminapi.Dependency, len(found))}
	for i, d := range found {
		out.Dependencies[i] = renderDependency(d)
	}
	return out, nil
}

func renderDependency(d Dependency) adminapi.Dependency {
	out := adminapi.Dependency{
		Dependency: d.Name, Holders: make([]adminapi.DependencyHolder, len(d.Holders)),
		Conditions: renderConditions(d.Conditions),
	}
	if d.Limit != nil {
		out.Limit = renderLimit(*d.Limit)
	}
	for i, h := range d.Holders {
		out.Holders[i] = adminapi.DependencyHolder{Holder: h.Name, Places: h.Places}
	}
	if d.Door != nil {
		out.Door = adminapi.DependencyDoor{
			Breaker: adminapi.DependencyDoorBreaker(d.Door.Breaker), BreakerSince: d.Door.BreakerSince.UTC(),
			InFlight: d.Door.InFlight, Waiting: d.Door.Waiting, Limit: d.Door.Limit, Places: d.Door.Places,
			P95Ms: d.Door.P95.Milliseconds(),
		}
	}
	return out
}

func renderLimit(l Limit) adminapi.DependencyLimit {
	return adminapi.DependencyLimit{
		Places: l.Places, Version: l.Version, Actor: l.Actor, Reason: l.Reason, SetAt: l.SetAt.UTC(),
	}
}

// SetDependencyLimit changes the limit of a dependency. It belongs to no tenant, and neither does its key.
func (s *adminServer) SetDependencyLimit(
	ctx context.Context, in adminapi.SetDependencyLimitRequestObject,
) (adminapi.SetDependencyLimitResponseObject, error) {
	c := callOf(ctx)
	var request adminapi.NewDependencyLimit
	hash, err := decodeNamed(c, in.Dependency, &request)
	if err != nil {
		return nil, err
	}
	if err := invalid(checkReason(request.Reason)); err != nil {
		return nil, err
	}
	response, err := s.cfg.Dependencies.SetLimit(ctx, s.keyed(c, hash), LimitChange{
		Dependency: in.Dependency, Places: request.Places, Actor: c.actor, Reason: request.Reason,
	}, func(l Limit) idempotency.Response {
		return idempotency.Response{Status: http.StatusOK, Body: marshal(renderLimit(l))}
	})
	return stored{response, c}, err
}
