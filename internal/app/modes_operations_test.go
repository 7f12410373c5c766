package app_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/transfer"
)

// followed bounds how long a process may take to follow on a slow machine; it polls twice a second.
const followed = 30 * time.Second

func TestAnOverrideIsFollowedByARunningSystemAndNoModeRefusesTheNext(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	const override = "/admin/v1/mode/override"
	type status struct {
		Mode       string `json:"mode"`
		Conditions []struct {
			Name    string `json:"name"`
			Subject string `json:"subject"`
		} `json:"conditions"`
	}
	told := func() status {
		return answer[status](t, s.asOperator(t, http.MethodGet, "/admin/v1/status", ""), http.StatusOK)
	}
	body := `{"control":"pinned","mode":"frozen","expires_in_seconds":3600,"reason":"a drill"}`
	answer[string](t, s.asOperator(t, http.MethodPut, override, body), http.StatusOK)
	require.Eventually(t, func() bool { return told().Mode == "frozen" }, followed, followed/1000)
	var names []string
	for _, c := range told().Conditions {
		names = append(names, c.Name+" "+c.Subject)
	}
	require.Subset(t, names, []string{"degraded frozen", "override_active mode"})

	type serviceMode struct {
		Mode      string `json:"mode"`
		Version   int64  `json:"version"`
		OwnPolicy string `json:"own_policy"`
		Followers []struct {
			Follows int64  `json:"follows"`
			Policy  string `json:"policy"`
			Behind  bool   `json:"behind"`
		} `json:"followers"`
	}
	require.Eventually(t, func() bool { // each process reports every five seconds
		m := answer[serviceMode](t, s.asOperator(t, http.MethodGet, "/admin/v1/mode", ""), http.StatusOK)
		behind := 0
		for _, f := range m.Followers {
			if f.Follows < m.Version || f.Policy != m.OwnPolicy || f.Behind {
				behind++
			}
		}
		return len(m.Followers) > 0 && behind == 0
	}, followed, followed/100)
	var metrics string
	require.Eventually(t, func() bool { // a sample is taken every five seconds
		metrics = answer[string](t, s.asOperator(t, http.MethodGet, "/metrics", ""), http.StatusOK)
		return strings.Contains(metrics, `holdfast_mode_signal{signal="saturation"} `)
	}, followed, followed/100)
	for _, series := range []string{
		`holdfast_mode{mode="frozen"} 1`, `holdfast_mode{mode="normal"} 0`,
		`holdfast_mode_level{level="normal"} 1`,
		`holdfast_mode_switches_total{by="operator",mode="frozen"} 1`, "holdfast_mode_blind_seconds ",
		`holdfast_mode_threshold{level="protection",signal="failure_ratio"} 0.1`,
	} {
		require.Contains(t, metrics, "\n"+series)
	}
	body = `{"control":"auto","reason":"over"}`
	answer[string](t, s.asOperator(t, http.MethodPut, override, body), http.StatusOK)
	require.Eventually(t, func() bool { return told().Mode == "normal" }, followed, followed/1000)
}

func TestWhatTheDatabaseShowsToBeWrongNamesTheMode(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	p, err := mode.Load("")
	require.NoError(t, err)
	_, err = app.NewModes(pool, p).Override(t.Context(), mode.Override{
		Control: mode.Pinned, Mode: mode.Protection, Actor: "operator:kim", Reason: "a drill", For: time.Hour,
	})
	require.NoError(t, err)
	o := app.NewOperations(pool, transfer.NewService(transfer.Config{Pool: pool, Now: time.Now}),
		order.NewService(order.Config{Pool: pool, Now: time.Now}))
	wrong, err := o.Wrong(t.Context(), time.Now())
	require.NoError(t, err)
	require.Len(t, wrong, 2)
	require.Equal(t, []string{"degraded", "protection", "override_active", "mode"}, []string{
		wrong[0].Condition.Name, wrong[0].Subject, wrong[1].Condition.Name, wrong[1].Subject,
	})
}
