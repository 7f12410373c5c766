package payout

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/holdfast/internal/problem"
)

const (
	// minSecretBytes is the least key that the Standard Webhooks scheme allows. An empty key would
	// verify what anybody signs.
	minSecretBytes = 24

	secretPrefix      = "whsec_"
	maxReferenceBytes = 255
)

// What can be wrong with a callback. Every other error of ReadCallback is about the secret, and ours.
var (
	ErrBadSignature = errors.New("callback is not signed as the rail signs")
	ErrBadCallback  = errors.New("callback makes no sense")
)

// Callback is the rail's word that a pending payout has ended. It is a wake-up, never a fact: it may be
// repeated, late, out of order, or not come at all. Who gets one asks the rail by Find and acts on the
// receipt alone; the status here is for logs.
type Callback struct {
	TenantID   uuid.UUID `json:"tenant_id"`
	TransferID uuid.UUID `json:"transfer_id"`
	Reference  string    `json:"reference"`
	Status     Status    `json:"status"`
}

// ReadCallback verifies the signature (Standard Webhooks, five minutes of tolerance by the wall clock)
// and only then reads the body. Its error matches ErrBadSignature or ErrBadCallback; it matches neither
// if the secret itself cannot be used, and then nothing was verified.
func ReadCallback(secret string, header http.Header, body []byte) (Callback, error) {
	key, err := readSecret(secret)
	if err != nil {
		return Callback{}, err
	}
	verifier, err := standardwebhooks.NewWebhookRaw(key)
	if err != nil {
		return Callback{}, fmt.Errorf("callback secret: %w", err)
	}
	if err := verifier.Verify(body, header); err != nil {
		return Callback{}, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	var callback Callback
	if err := json.Unmarshal(body, &callback, json.RejectUnknownMembers(true)); err != nil {
		return Callback{}, fmt.Errorf("%w: %w", ErrBadCallback, err)
	}
	if err := callback.check(); err != nil {
		return Callback{}, fmt.Errorf("%w: %w", ErrBadCallback, err)
	}
	return callback, nil
}

// CheckSecret says what is wrong with a secret, without quoting it.
func CheckSecret(secret string) error {
	_, err := readSecret(secret)
	return err
}

func readSecret(secret string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil || len(key) < minSecretBytes { // the cause would quote a part of the secret
		return nil, fmt.Errorf("callback secret is not %d bytes or more in base64", minSecretBytes)
	}
	return key, nil
}

func (c Callback) check() error {
	if c.TenantID == uuid.Nil || c.TransferID == uuid.Nil || c.Reference == "" {
		return errors.New("tenant_id, transfer_id and reference have to be there")
	}
	if wrong := problem.InvalidText(c.Reference, maxReferenceBytes); wrong != "" {
		return errors.New("reference " + wrong)
	}
	return c.Status.check()
}
