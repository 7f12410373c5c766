package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/holdfast/internal/problem"
)

const (
	// secretLabel parts these secrets from whatever else the master key is for.
	secretLabel  = "holdfast webhook v1"
	secretPrefix = "whsec_"
)

// secretKey makes the key of a version of an endpoint's secret. It is never stored: who reads the database
// can sign nothing.
func secretKey(master []byte, endpoint uuid.UUID, version int32) []byte {
	h := hmac.New(sha256.New, master)
	h.Write([]byte(secretLabel))
	h.Write(endpoint[:])
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(version))) //nolint:gosec // from 1, by its table
	return h.Sum(nil)
}

func secretText(master []byte, endpoint uuid.UUID, version int32) string {
	return secretPrefix + base64.StdEncoding.EncodeToString(secretKey(master, endpoint, version))
}

// signature is the header of a message: by the present secret and, while it is still valid, by the one
// before.
func signature(keys [][]byte, id string, at time.Time, body []byte) (string, error) {
	signatures := make([]string, len(keys))
	for i, key := range keys {
		signer, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return "", fmt.Errorf("sign message %s: %w", id, err)
		}
		if signatures[i], err = signer.Sign(id, at, body); err != nil {
			return "", fmt.Errorf("sign message %s: %w", id, err)
		}
	}
	return strings.Join(signatures, " "), nil
}

// unavailable is the answer while there is no master key: whoever runs this has to set one.
func unavailable() error {
	return problem.New(problem.WebhooksUnavailable, "This installation has no key to sign webhooks with.")
}
