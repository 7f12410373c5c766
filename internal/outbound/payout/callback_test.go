package payout_test

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound/payout"
)

// secret is 24 bytes, the least that is taken.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

const (
	tenantID   = "0198c0de-0000-7000-8000-000000000001"
	transferID = "0198c0de-0000-7000-8000-000000000002"
	wellMade   = `{"tenant_id":"` + tenantID + `","transfer_id":"` + transferID +
		`","reference":"t1/payout/1","status":"paid"}`
)

// signed are the headers that the rail sends with the body.
func signed(t *testing.T, secret, body string, at time.Time) http.Header {
	t.Helper()
	signer, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	signature, err := signer.Sign("msg_1", at, []byte(body))
	require.NoError(t, err)
	header := http.Header{}
	header.Set("Webhook-Id", "msg_1")
	header.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	header.Set("Webhook-Signature", signature)
	return header
}

// now is the wall clock, by which signatures are judged.
func now() time.Time { return time.Now() } //nolint:forbidigo // the library reads it, so the test has to

func TestASignedCallbackIsRead(t *testing.T) {
	t.Parallel()
	want := payout.Callback{
		TenantID: uuid.MustParse(tenantID), TransferID: uuid.MustParse(transferID),
		Reference: "t1/payout/1", Status: payout.StatusPaid,
	}
	callback, err := payout.ReadCallback(secret, signed(t, secret, wellMade, now()), []byte(wellMade))
	require.NoError(t, err)
	require.Equal(t, want, callback)

	header := signed(t, secret, wellMade, now())
	header.Set("Webhook-Signature", "v1,c3RhbGU= "+header.Get("Webhook-Signature"))
	callback, err = payout.ReadCallback(secret, header, []byte(wellMade))
	require.NoError(t, err, "while the rail rotates its secret it signs twice")
	require.Equal(t, want, callback)
}

func TestWhatTheRailDidNotSignIsRefusedUnread(t *testing.T) {
	t.Parallel()
	other := "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 24)))
	good := signed(t, secret, wellMade, now())
	without := func(name string) http.Header {
		header := good.Clone()
		header.Del(name)
		return header
	}
	changed := good.Clone()
	changed.Set("Webhook-Id", "msg_2")
	tests := []struct {
		name   string
		header http.Header
		body   string
	}{
		{"another secret", signed(t, other, wellMade, now()), wellMade},
		{"another body", good, strings.Replace(wellMade, "paid", "refused", 1)},
		{"another message", changed, wellMade},
		{"too old", signed(t, secret, wellMade, now().Add(-6*time.Minute)), wellMade},
		{"too new", signed(t, secret, wellMade, now().Add(6*time.Minute)), wellMade},
		{"no headers", http.Header{}, wellMade},
		{"no id", without("Webhook-Id"), wellMade},
		{"no timestamp", without("Webhook-Timestamp"), wellMade},
		{"no signature", without("Webhook-Signature"), wellMade},
		{"not even JSON", http.Header{}, "<html>"},
	}
	for _, tt := range tests {
		callback, err := payout.ReadCallback(secret, tt.header, []byte(tt.body))
		require.ErrorIs(t, err, payout.ErrBadSignature, tt.name)
		require.NotErrorIs(t, err, payout.ErrBadCallback, tt.name)
		require.Zero(t, callback, tt.name)
	}
}

func TestASignedCallbackThatMakesNoSenseIsAnotherError(t *testing.T) {
	t.Parallel()
	replaced := func(old, by string) string {
		require.Contains(t, wellMade, old)
		return strings.Replace(wellMade, old, by, 1)
	}
	for _, body := range []string{
		``, `<html>`, `{}`, wellMade + wellMade,
		replaced(`"paid"`, `"perhaps"`),
		replaced(`"paid"`, `"paid","added":1`),
		replaced(`"status"`, `"Status"`),
		replaced(`"paid"`, `"paid","status":"paid"`),
		replaced(tenantID, uuid.Nil.String()),
		replaced(transferID, "t1"),
		replaced(`"transfer_id":"`+transferID+`",`, ``),
		replaced("t1/payout/1", ""),
		replaced("t1/payout/1", `t1\u0000`),
		replaced("t1/payout/1", strings.Repeat("r", 256)),
	} {
		callback, err := payout.ReadCallback(secret, signed(t, secret, body, now()), []byte(body))
		require.ErrorIs(t, err, payout.ErrBadCallback, body)
		require.NotErrorIs(t, err, payout.ErrBadSignature, body)
		require.Zero(t, callback, body)
	}
}

// TestAnUnusableSecretVerifiesNothing keeps an unset secret from accepting what anybody can sign.
func TestAnUnusableSecretVerifiesNothing(t *testing.T) {
	t.Parallel()
	short := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 23)))
	for _, unusable := range []string{"", "whsec_", short} {
		_, err := payout.ReadCallback(unusable, signed(t, unusable, wellMade, now()), []byte(wellMade))
		require.EqualError(t, err, "callback secret is not 24 bytes or more in base64", unusable)
	}
	_, err := payout.ReadCallback("whsec_no base64", http.Header{}, []byte(wellMade))
	require.EqualError(t, err, "callback secret is not 24 bytes or more in base64")
}
