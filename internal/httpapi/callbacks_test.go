package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
)

const (
	railSecret   = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	goodCallback = `{"tenant_id":"018f2b6e-0000-7000-8000-0000000000e1",` +
		`"transfer_id":"018f2b6e-0000-7000-8000-0000000000f1","reference":"one/payout/1","status":"paid"}`
)

func withRail(c *Config) { c.PayoutCallbackSecret = railSecret }

// callback is what the rail sends, signed with a secret at a time.
func callback(t *testing.T, secret, body string, at time.Time) exchange {
	t.Helper()
	signer, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	signature, err := signer.Sign("msg_1", at, []byte(body))
	require.NoError(t, err)
	return exchange{
		method: post, path: "/v1/callbacks/payout-rail", body: body, key: "-", name: "-",
		header: http.Header{
			"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {strconv.FormatInt(at.Unix(), 10)},
			"Webhook-Signature": {signature},
		},
	}
}

// wallTime is what signatures are judged by.
func wallTime() time.Time { return time.Now() } //nolint:forbidigo // the library reads it, so the test has to

func TestASignedCallbackWakesItsTransferAndSaysNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, withRail)
	for _, transferID := range []string{known.String(), absent.String()} {
		body := strings.Replace(goodCallback, known.String(), transferID, 1)
		a := b.do(t, callback(t, railSecret, body, wallTime()))
		require.Equal(t, http.StatusNoContent, a.Code, a.text)
		require.Empty(t, a.text)
	}
	require.Equal(t, []woken{
		{transfer.Ref{TenantID: acme, ID: known}, "one/payout/1"},
		{transfer.Ref{TenantID: acme, ID: absent}, "one/payout/1"},
	}, b.fake.woken)
	require.Contains(t, b.log.String(), `"tenant_id":"`+acme.String())
}

func TestACallbackThatTheRailDidNotSignIsRefusedUnread(t *testing.T) {
	t.Parallel()
	other := "whsec_" + strings.Repeat("A", 32)
	unsigned := callback(t, railSecret, goodCallback, wallTime())
	unsigned.header.Del("Webhook-Signature")
	for name, e := range map[string]exchange{
		"another secret":        callback(t, other, goodCallback, wallTime()),
		"another secret, wrong": callback(t, other, "{", wallTime()),
		"too old":               callback(t, railSecret, goodCallback, wallTime().Add(-time.Hour)),
		"no signature":          unsigned,
		"an API key instead":    {method: post, path: "/v1/callbacks/payout-rail", body: goodCallback},
	} {
		b := setup(t, withRail)
		b.requireProblem(t, e, problem.Unauthenticated)
		require.Empty(t, b.fake.woken, name)
		require.NotContains(t, b.log.String(), "tenant_id", name)
	}
}

func TestASignedCallbackHasToBeInTheContractsForm(t *testing.T) {
	t.Parallel()
	for body, code := range map[string]problem.Code{
		"{":  problem.MalformedRequest,
		"{}": problem.ValidationFailed,
		strings.Replace(goodCallback, "paid", "odd", 1):    problem.ValidationFailed,
		strings.Replace(goodCallback, "{", `{"a":1,`, 1):   problem.ValidationFailed,
		strings.Replace(goodCallback, "one/", `\u0000`, 1): problem.ValidationFailed,
	} {
		b := setup(t, withRail)
		b.requireProblem(t, callback(t, railSecret, body, wallTime()), code)
		require.Empty(t, b.fake.woken, body)
	}
	b := setup(t, withRail)
	e := callback(t, railSecret, goodCallback, wallTime())
	e.header.Set("Request-Timeout", "soon")
	b.requireProblem(t, e, problem.ValidationFailed)
	e = callback(t, railSecret, goodCallback, wallTime())
	e.header.Set("Content-Type", "text/plain")
	b.requireProblem(t, e, problem.UnsupportedMediaType)
	huge := strings.Repeat(" ", bodyMaxBytes+1)
	b.requireProblem(t, callback(t, railSecret, huge, wallTime()), problem.BodyTooLarge)
	require.Empty(t, b.fake.woken)
}

func TestWithoutASecretThereAreNoCallbacks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.requireProblem(t, callback(t, railSecret, goodCallback, wallTime()), problem.NotFound)
	require.Empty(t, b.fake.woken)
	b = setup(t, func(c *Config) { c.PayoutCallbackSecret = "short" })
	b.requireProblem(t, callback(t, railSecret, goodCallback, wallTime()), problem.Internal)
	require.Empty(t, b.fake.woken, "a secret that cannot be used verifies nothing")
}
