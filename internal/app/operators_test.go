package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/config"
)

// conditionWait bounds how long a condition may take to begin on a slow machine; it takes three seconds.
const conditionWait = 30 * time.Second

const callbackSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// answer sends a request and decodes what comes back with the status.
func answer[T any](t *testing.T, r *http.Request, status int) T {
	t.Helper()
	reply, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	text, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	require.NoError(t, reply.Body.Close())
	require.Equal(t, status, reply.StatusCode, string(text))
	var out T
	if raw, ok := any(&out).(*string); ok {
		*raw = string(text)
		return out
	}
	require.NoError(t, json.Unmarshal(text, &out), string(text))
	return out
}

// asOperator is a request to the admin listener.
func (s system) asOperator(t *testing.T, method, path, body string) *http.Request {
	t.Helper()
	url := "http://" + s.api.AdminAddr() + path
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+s.demo.AdminKey)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", uuid.NewString())
	return r
}

// outside is the demo tenant's account that stands for the world.
func (s system) outside(t *testing.T) uuid.UUID {
	t.Helper()
	type account struct {
		ID   uuid.UUID `json:"id"`
		Kind string    `json:"kind"`
	}
	all := answer[struct {
		Accounts []account `json:"accounts"`
	}](t, s.request(t, http.MethodGet, "/v1/accounts", ""), http.StatusOK)
	for _, a := range all.Accounts {
		if a.Kind == "external" {
			return a.ID
		}
	}
	t.Fatal("no external account")
	return uuid.Nil
}

func TestAPayoutSettlesWhenTheRailCallsBack(t *testing.T) {
	t.Parallel()
	var rail string
	s := start(t, func(c *config.Config) { rail, c.PayoutCallbackSecret = c.Payout.URL, callbackSecret })
	set := strings.NewReader(fmt.Sprintf(`{"payout_pending_rate":1,"payout_settle_ms":50,"callback_rate":1,
		"callback_duplicates":2,"callback_url":"http://%s/v1/callbacks/payout-rail","callback_secret":%q}`,
		s.api.Addr(), callbackSecret))
	knobs, err := http.NewRequestWithContext(t.Context(), http.MethodPut, rail+"/knobs", set)
	require.NoError(t, err)
	answer[string](t, knobs, http.StatusOK)

	type transfer struct {
		ID            string `json:"id"`
		Status        string `json:"status"`
		RailReference string `json:"rail_reference"`
	}
	body := fmt.Sprintf(`{"from_account":%q,"to_account":%q,"amount":{"value":125,"currency":"EUR"}}`,
		s.demo.Accounts[0], s.outside(t))
	create := s.request(t, http.MethodPost, "/v1/transfers", body, "Idempotency-Key", "one")
	accepted := answer[transfer](t, create, http.StatusAccepted)
	wait := s.request(t, http.MethodGet, "/v1/transfers/"+accepted.ID, "", "Prefer", "wait=20")
	settled := answer[transfer](t, wait, http.StatusOK)
	require.Equal(t, "settled", settled.Status)
	require.NotEmpty(t, settled.RailReference)
	heard := `holdfast_http_request_seconds_count{route="POST /v1/callbacks/payout-rail",status="204"}`
	require.Eventually(t, func() bool {
		metrics := answer[string](t, s.asOperator(t, http.MethodGet, "/metrics", ""), http.StatusOK)
		return strings.Contains(metrics, heard)
	}, placesWait, placesWait/1000)
}

func TestOperatorsSeeAndSetTheLimitsOfARunningSystem(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	answer[string](t, s.asOperator(t, http.MethodPut, "/admin/v1/dependencies/risk_api/limit",
		`{"places":3,"reason":"the risk service asks for less"}`), http.StatusOK)
	type dependencies struct {
		Dependencies []struct {
			Dependency string `json:"dependency"`
			Limit      struct {
				Places int    `json:"places"`
				Actor  string `json:"actor"`
			} `json:"limit"`
			Holders []struct {
				Places int `json:"places"`
			} `json:"holders"`
			Door *struct {
				Breaker string `json:"breaker"`
				Places  int    `json:"places"`
			} `json:"door"`
		} `json:"dependencies"`
	}
	require.Eventually(t, func() bool {
		look := s.asOperator(t, http.MethodGet, "/admin/v1/dependencies", "")
		found := answer[dependencies](t, look, http.StatusOK)
		require.Len(t, found.Dependencies, 3)
		risk := found.Dependencies[2]
		require.Equal(t, "risk_api", risk.Dependency)
		require.Equal(t, 3, risk.Limit.Places)
		require.Equal(t, "operator:demo operator", risk.Limit.Actor)
		require.NotNil(t, risk.Door, "the worker of this process has one")
		require.Equal(t, "closed", risk.Door.Breaker)
		return len(risk.Holders) == 1 && risk.Holders[0].Places == 3 && risk.Door.Places == 3
	}, placesWait, placesWait/1000)
	for _, path := range []string{"/admin/v1/queues", "/admin/v1/dead-letters"} {
		answer[map[string]any](t, s.asOperator(t, http.MethodGet, path, ""), http.StatusOK)
	}
}

func TestOperatorsSeeWhatIsWrongInARunningSystem(t *testing.T) {
	t.Parallel()
	var url string
	s := start(t, func(c *config.Config) { url = c.DatabaseURL })
	type status struct {
		Overall    string `json:"overall"`
		Instance   string `json:"instance"`
		Version    string `json:"version"`
		Ready      bool   `json:"ready"`
		Conditions []struct {
			Name    string    `json:"name"`
			Subject string    `json:"subject"`
			Runbook string    `json:"runbook"`
			Since   time.Time `json:"since"`
		} `json:"conditions"`
	}
	look := func() status {
		return answer[status](t, s.asOperator(t, http.MethodGet, "/admin/v1/status", ""), http.StatusOK)
	}
	well := look()
	require.Equal(t, "ok", well.Overall)
	require.Equal(t, "test", well.Version)
	require.NotEmpty(t, well.Instance)
	require.True(t, well.Ready)

	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	_, err = pool.Exec(t.Context(), `
INSERT INTO river_job (args, kind, max_attempts, queue, state, attempt, finalized_at)
VALUES ('{}', 'transfer_screen', 3, 'risk_api', 'discarded', 3, now())`)
	require.NoError(t, err)
	begun := func() bool { return look().Overall == "warning" }
	require.Eventually(t, begun, conditionWait, conditionWait/1000)
	wrong := look().Conditions
	require.Len(t, wrong, 1)
	require.Equal(t, "dead_letters", wrong[0].Name)
	require.Equal(t, "job", wrong[0].Subject)
	require.Equal(t, "docs/runbooks/dead-letters.md", wrong[0].Runbook)
	require.WithinDuration(t, time.Now(), wrong[0].Since, conditionWait)
}
