package config_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/config"
)

// secret is one that callbacks could be signed with.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func TestAnEmptyEnvironmentGivesTheDocumentedDefaults(t *testing.T) {
	t.Parallel()
	c, err := config.Load(nil)
	require.NoError(t, err)
	require.Equal(t, ":8080", c.Addr)
	require.Equal(t, 8, c.Risk.Limit)
	require.Equal(t, 20, c.Notify.Limit)
	require.Equal(t, 8, c.Payout.Limit)
	require.Equal(t, 40, c.DBLimit)
	require.Equal(t, 250*time.Millisecond, c.AcceptWaitMax)
	require.Equal(t, config.Drain{Max: 15 * time.Second}, c.Drain)
	require.Empty(t, c.NATSURL, "no events are sent")
	require.Empty(t, c.WebhookMasterKey(), "there are no webhooks")
	require.False(t, c.WebhookDevelopment)
	require.Equal(t, "HOLDFAST", c.NATSStream)
	require.Empty(t, c.NATSCreds)
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := config.Load([]string{
		"HOLDFAST_RISK_LIMIT=-1", "HOLDFAST_NOTIFY_TIMEOUT=0s", "HOLDFAST_LOG_FORMAT=xml",
		"HOLDFAST_API_CONNS=0", "IDEMPOTENCY_MISMATCH_STATUS=200", "HOLDFAST_RISK_TIMEOUT=3751ms",
		"HOLDFAST_NOTIFY_LIMIT=1001", "HOLDFAST_PAYOUT_WAIT_MAX=0s", "HOLDFAST_DRAIN_GRACE=-1s",
		"HOLDFAST_PAYOUT_CALLBACK_SECRET=c2hvcnQ=", "HOLDFAST_NATS_URL=http://u:c2hvcnQ=@nats",
		"HOLDFAST_NATS_STREAM=holdfast.events", "HOLDFAST_PUBLIC_URL=api.example.com/",
		"HOLDFAST_WEBHOOK_KEY=dG9vIHNob3J0", "HOLDFAST_ACCEPT_WAIT_MAX=-1s",
	})
	for _, part := range []string{
		"HOLDFAST_RISK_LIMIT", "HOLDFAST_NOTIFY_TIMEOUT", "xml", "every pool", "MISMATCH_STATUS 200",
		"HOLDFAST_RISK_TIMEOUT has to be positive and at most 3.75s",
		"HOLDFAST_NOTIFY_LIMIT has to be 1 to 1000", "HOLDFAST_PAYOUT_WAIT_MAX", "DRAIN_GRACE",
		"HOLDFAST_PAYOUT_CALLBACK_SECRET", "HOLDFAST_NATS_URL has to be",
		`HOLDFAST_NATS_STREAM "holdfast.events"`, "HOLDFAST_PUBLIC_URL has to be",
		"HOLDFAST_WEBHOOK_KEY has to be 32 bytes or more in base64", "HOLDFAST_ACCEPT_WAIT_MAX",
	} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), "c2hvcnQ")
}

func TestASettingThatIsNoNumberNamesItself(t *testing.T) {
	t.Parallel()
	_, err := config.Load([]string{"HOLDFAST_DB_LIMIT=many", "HOLDFAST_DRAIN_MAX=soon"})
	require.ErrorContains(t, err, "DBLimit")
	require.ErrorContains(t, err, `"Max"`)
}

func TestEverySecretMayComeFromAFile(t *testing.T) {
	t.Parallel()
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(path, []byte(content+"\n"), 0o600))
		return path
	}
	c, err := config.Load([]string{
		"DATABASE_URL_FILE=" + file("postgres://u:secret@db/x"),
		"HOLDFAST_PAYOUT_CALLBACK_SECRET_FILE=" + file(secret),
		"HOLDFAST_NATS_URL_FILE=" + file("nats://u:secret@nats"),
	})
	require.NoError(t, err)
	require.Equal(t, "nats://u:secret@nats", c.NATSURL)
	require.Equal(t, "postgres://u:secret@db/x", c.DatabaseURL)
	require.Equal(t, secret, c.PayoutCallbackSecret)

	gone := filepath.Join(t.TempDir(), "gone")
	_, err = config.Load([]string{
		"DATABASE_URL_FILE=" + gone, "HOLDFAST_PAYOUT_CALLBACK_SECRET_FILE=" + gone,
		"HOLDFAST_DRAIN_MAX=0s",
	})
	require.ErrorContains(t, err, "DATABASE_URL_FILE")
	require.ErrorContains(t, err, "HOLDFAST_PAYOUT_CALLBACK_SECRET_FILE")
	require.ErrorContains(t, err, "HOLDFAST_DRAIN_MAX", "every mistake is told at once")
}

func TestRedactedListsEverySettingWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	c, err := config.Load([]string{
		"DATABASE_URL=postgres://u:secret@db/x", "HOLDFAST_RISK_URL=http://risk",
		"HOLDFAST_PAYOUT_CALLBACK_SECRET=" + secret,
		"HOLDFAST_NATS_URL=nats://u:secret@a:4222, tls://secrettoken@b,nats://c",
		"HOLDFAST_NATS_CREDS=/creds",
	})
	require.NoError(t, err)
	text := c.Redacted()
	require.Contains(t, text, "DATABASE_URL=postgres://u:xxxxx@db/x\n")
	require.Contains(t, text, "HOLDFAST_PAYOUT_CALLBACK_SECRET=(hidden)\n")
	require.Contains(t, text, "HOLDFAST_RISK_URL=http://risk\n")
	require.Contains(t, text, "HOLDFAST_NOTIFY_WAIT_MAX=250ms\n")
	require.Contains(t, text, "HOLDFAST_PAYOUT_LIMIT=8\n")
	require.Contains(t, text, "HOLDFAST_NATS_URL=nats://xxxxx@a:4222,tls://xxxxx@b,nats://c\n")
	require.Contains(t, text, "HOLDFAST_NATS_STREAM=HOLDFAST\nHOLDFAST_NATS_CREDS=/creds\n")
	require.NotContains(t, text, "secret")
	require.NotContains(t, text, secret)
}

func TestAServerOfTheBrokerNamesItsProtocol(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"nats://n", "tls://u:p@n:4222", "ws://n,wss://m", "nats://[::1]:4222"} {
		_, err := config.Load([]string{"HOLDFAST_NATS_URL=" + url})
		require.NoError(t, err, url)
	}
	for _, url := range []string{
		"n:4222", "u:secret@n:4222", "http://n", "nats://", "nats://n,", "nats://u:secret@n:port",
	} {
		_, err := config.Load([]string{"HOLDFAST_NATS_URL=" + url})
		require.ErrorContains(t, err, "HOLDFAST_NATS_URL", url)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, config.Config{NATSURL: url}.Redacted(), "secret")
	}
}
