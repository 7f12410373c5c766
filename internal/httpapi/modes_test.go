package httpapi

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/problem"
)

const (
	modePath     = "/admin/v1/mode"
	overridePath = modePath + "/override"
	goodOverride = `{"control":"pinned","mode":"frozen","expires_in_seconds":3600,"reason":"a drill"}`
)

func asViewer(path string) exchange { return exchange{method: get, path: path, key: "viewer"} }

func TestOperatorsSeeTheModeWithItsSignalsAndWhoFollows(t *testing.T) {
	t.Parallel()
	b := setupAdmin(t)
	m := decoded[adminapi.ServiceMode](t, b.do(t, asViewer(modePath)))
	require.Equal(t, adminapi.ModeNameFrozen, m.Mode)
	require.Equal(t, adminapi.ModeNameConstrained, m.Level)
	require.Equal(t, adminapi.ModeControlPinned, m.Control)
	require.Equal(t, []time.Time{noon, noon.Add(time.Hour), noon},
		[]time.Time{m.Since, m.ExpiresAt, m.SampledAt})
	require.Equal(t, m.OwnPolicy, m.Policy)
	require.Len(t, m.Signals, len(mode.Signals()))
	require.Nil(t, m.Signals[0].Value, "it was not measured")
	require.Equal(t, adminapi.ModeThreshold{Enter: 20, Leave: 8}, *m.Signals[0].Protection)
	require.InDelta(t, 1.25, *m.Signals[2].Value, 0)
	require.Nil(t, m.Signals[2].Protection, "it leads to no such level")
	require.Zero(t, *m.Signals[5].Value, "zero is not nothing")
	require.Equal(t, []adminapi.ModeFollower{{
		Instance: "api-1", Follows: 11, Behind: true, Policy: "other", OtherPolicy: true, AgeSeconds: 1,
	}}, m.Followers)
}

func TestTheHistoryOfTheModeIsReadBackwards(t *testing.T) {
	t.Parallel()
	b := setupAdmin(t)
	all := decoded[adminapi.ModeChangeList](t, b.do(t, asViewer(modePath+"/history")))
	require.Len(t, all.Changes, 2)
	require.Empty(t, all.Changes[0].Signals)
	require.Equal(t, adminapi.ModeChangeCauseController, all.Changes[1].Cause)
	require.Equal(t, adminapi.ModeSignalNameSaturation, all.Changes[1].Signals[0].Signal)
	first := decoded[adminapi.ModeChangeList](t, b.do(t, asViewer(modePath+"/history?limit=1")))
	require.Equal(t, all.Changes[:1], first.Changes)
	rest := decoded[adminapi.ModeChangeList](t, b.do(t, asViewer(modePath+"/history?before=12")))
	require.Equal(t, all.Changes[1:], rest.Changes)
	for _, query := range []string{"?limit=0", "?limit=201", "?before=0", "?before=x", "?after=1"} {
		b.requireProblem(t, asViewer(modePath+"/history"+query), problem.ValidationFailed)
	}
}

func TestASimulationStandsBesideWhatWas(t *testing.T) {
	t.Parallel()
	b := setupAdmin(t)
	s := decoded[adminapi.ModeSimulation](t, b.do(t, asViewer(modePath+"/simulation")))
	require.Equal(t, time.Hour, b.fake.simulated)
	require.Equal(t, defaultPolicy().Hash(), s.Policy)
	require.Equal(t, 5, s.Samples)
	require.Equal(t, []adminapi.ModeSwitch{{
		At: noon.Add(10 * time.Second), From: adminapi.ModeNameNormal, To: adminapi.ModeNameConstrained,
		Causes: []adminapi.ModeCause{{
			Signal: adminapi.ModeSignalNameTransferAgeSeconds, Value: 6, Threshold: 5,
		}},
	}}, s.Would.Switches)
	require.Empty(t, s.Was.Switches)
	require.Equal(t, adminapi.ModeSeconds{Normal: 20}, s.Was.Seconds)
	b.do(t, asViewer(modePath+"/simulation?since_seconds=60"))
	require.Equal(t, time.Minute, b.fake.simulated)
	for _, query := range []string{"?since_seconds=0", "?since_seconds=86401", "?since_seconds=1h"} {
		b.requireProblem(t, asViewer(modePath+"/simulation"+query), problem.ValidationFailed)
	}
}

func TestAnOperatorOverridesTheModeOncePerKey(t *testing.T) {
	t.Parallel()
	b := setupAdmin(t)
	e := asOperator(overridePath, goodOverride)
	e.name = "one"
	first, again := b.do(t, e), b.do(t, e)
	require.Equal(t, http.StatusOK, first.Code, first.text)
	require.JSONEq(t, `{"mode":"frozen","control":"pinned","expires_at":"2026-11-22T13:00:00Z","version":12,
		"actor":"operator:kim","reason":"a drill"}`, first.text)
	require.Equal(t, first.text, again.text)
	require.Equal(t, "true", again.Header().Get("Idempotent-Replayed"))
	require.Equal(t, []mode.Override{{
		Control: mode.Pinned, Mode: mode.Frozen, Actor: "operator:kim", Reason: "a drill", For: time.Hour,
	}}, b.fake.overrides)
	e.body = `{"control":"auto","reason":"a drill"}`
	b.requireProblem(t, e, problem.KeyReused)
	require.Equal(t, http.StatusOK, b.do(t, asOperator(overridePath, e.body)).Code)
	require.Equal(t, mode.Override{Control: mode.Auto, Actor: "operator:kim", Reason: "a drill"},
		b.fake.overrides[1])
}

func TestWhatIsWrongWithAnOverrideIsNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, pointer string }{
		{`{"control":"auto"}`, "/reason"},
		{`{"control":"auto","reason":" "}`, "/reason"},
		{`{"reason":"a drill"}`, "/control"},
		{`{"control":"manual","reason":"r"}`, "/control"},
		{`{"control":"pinned","expires_in_seconds":60,"reason":"r"}`, "/mode"},
		{`{"control":"advise","mode":"normal","expires_in_seconds":60,"reason":"r"}`, "/mode"},
		{`{"control":"advise","reason":"r"}`, "/expires_in_seconds"},
		{`{"control":"advise","expires_in_seconds":59,"reason":"r"}`, "/expires_in_seconds"},
		{`{"control":"auto","expires_in_seconds":60,"reason":"r"}`, "/expires_in_seconds"},
		{`{"control":"advise","expires_in_seconds":43201,"reason":"r"}`, "/expires_in_seconds"},
		{`{"control":"advise","expires_in_seconds":9223372037,"reason":"r"}`, "/expires_in_seconds"},
		{`{"control":"advise","expires_in_seconds":-60,"reason":"r"}`, "/expires_in_seconds"},
		{`{"control":"pinned","mode":"frozen","expires_in_seconds":60,"reason":"r","actor":"me"}`, "/actor"},
	} {
		b := setupAdmin(t)
		p := b.requireProblem(t, asOperator(overridePath, c.body), problem.ValidationFailed)
		require.Equal(t, c.pointer, p.Errors[0].Pointer, c.body)
		require.Empty(t, b.fake.overrides)
	}
}

func TestStatusNamesTheMode(t *testing.T) {
	t.Parallel()
	b := setupAdmin(t, func(c *Config) { c.Self.Mode = func() mode.Mode { return mode.Protection } })
	s := decoded[adminapi.Status](t, b.do(t, asViewer("/admin/v1/status")))
	require.Equal(t, adminapi.ModeNameProtection, s.Mode)
}
