package app_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
)

func TestAHealthCheckSaysWhatReadinessSays(t *testing.T) {
	t.Parallel()
	var status atomic.Int64
	process := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("a health check asked for %s", r.URL.Path)
		}
		w.WriteHeader(int(status.Load()))
	}))
	defer process.Close()
	at := process.Listener.Addr().String()
	_, port, err := net.SplitHostPort(at)
	require.NoError(t, err)

	status.Store(http.StatusOK)
	for _, addr := range []string{at, ":" + port, "0.0.0.0:" + port} {
		require.NoError(t, app.Healthcheck(t.Context(), config.Config{AdminAddr: addr}), addr)
	}
	status.Store(http.StatusServiceUnavailable)
	require.ErrorContains(t, app.Healthcheck(t.Context(), config.Config{AdminAddr: at}), "503")
	process.Close()
	require.Error(t, app.Healthcheck(t.Context(), config.Config{AdminAddr: at}))
	require.ErrorContains(t, app.Healthcheck(t.Context(), config.Config{AdminAddr: "8081"}),
		"HOLDFAST_ADMIN_ADDR")
}

func TestAProcessTakesNoOtherArgumentThanHealthcheck(t *testing.T) {
	t.Parallel()
	asks, err := app.AsksForHealth(nil)
	require.NoError(t, err)
	require.False(t, asks)
	asks, err = app.AsksForHealth([]string{"healthcheck"})
	require.NoError(t, err)
	require.True(t, asks)
	for _, args := range [][]string{{"helthcheck"}, {"healthcheck", "now"}} {
		_, err = app.AsksForHealth(args)
		require.Error(t, err)
	}
}
