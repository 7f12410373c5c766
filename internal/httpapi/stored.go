package httpapi

import (
	"net/http"

	jsonv2 "github.com/go-json-experiment/json"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/problem"
)

// stored is the answer to a keyed request: the bytes that were stored with its outcome, so that the
// first answer and its replays are the same.
type stored struct {
	idempotency.Response

	call *call
}

func (s stored) write(w http.ResponseWriter) error {
	h := w.Header()
	if s.Location != "" {
		h.Set("Location", s.Location)
	}
	if s.Replayed {
		h.Set("Idempotent-Replayed", "true")
		s.call.replayed = true
	}
	contentType := typeJSON
	if s.Status >= http.StatusBadRequest {
		contentType = typeProblem
		var refusal struct {
			Code problem.Code `json:"code"`
		}
		if err := jsonv2.Unmarshal(s.Body, &refusal); err == nil {
			s.call.code = refusal.Code
		}
	}
	if s.Status == http.StatusNoContent {
		w.WriteHeader(s.Status)
		return nil
	}
	write(w, contentType, s.Status, s.Body)
	return nil
}

// VisitCreateTransferResponse writes the answer.
func (s stored) VisitCreateTransferResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitCreateTransfersResponse writes the answer.
func (s stored) VisitCreateTransfersResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitCancelTransferResponse writes the answer.
func (s stored) VisitCancelTransferResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitReverseTransferResponse writes the answer.
func (s stored) VisitReverseTransferResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitCreateAccountResponse writes the answer.
func (s stored) VisitCreateAccountResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitSetAccountStatusResponse writes the answer.
func (s stored) VisitSetAccountStatusResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitCreateOrderResponse writes the answer.
func (s stored) VisitCreateOrderResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitCancelOrderResponse writes the answer.
func (s stored) VisitCancelOrderResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitCreateSKUResponse writes the answer.
func (s stored) VisitCreateSKUResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitChangeStockResponse writes the answer.
func (s stored) VisitChangeStockResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitCreateSlotResponse writes the answer.
func (s stored) VisitCreateSlotResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitCloseSlotResponse writes the answer.
func (s stored) VisitCloseSlotResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitDecideReviewResponse writes the answer.
func (s stored) VisitDecideReviewResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitSetRiskPostureResponse writes the answer.
func (s stored) VisitSetRiskPostureResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitSetDependencyLimitResponse writes the answer.
func (s stored) VisitSetDependencyLimitResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitSetModeOverrideResponse writes the answer.
func (s stored) VisitSetModeOverrideResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitCreateWebhookEndpointResponse writes the answer.
func (s stored) VisitCreateWebhookEndpointResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitReplaceWebhookEndpointResponse writes the answer.
func (s stored) VisitReplaceWebhookEndpointResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitDeleteWebhookEndpointResponse writes the answer.
func (s stored) VisitDeleteWebhookEndpointResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitPauseWebhookEndpointResponse writes the answer.
func (s stored) VisitPauseWebhookEndpointResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitResumeWebhookEndpointResponse writes the answer.
func (s stored) VisitResumeWebhookEndpointResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitRotateWebhookSecretResponse writes the answer.
func (s stored) VisitRotateWebhookSecretResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitPingWebhookEndpointResponse writes the answer.
func (s stored) VisitPingWebhookEndpointResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitResendWebhookEventsResponse writes the answer.
func (s stored) VisitResendWebhookEventsResponse(w http.ResponseWriter) error { return s.write(w) }

// VisitRedriveWebhookDeadLettersResponse writes the answer.
func (s stored) VisitRedriveWebhookDeadLettersResponse(w http.ResponseWriter) error {
	return s.write(w)
}

// VisitRedriveWebhookEndpointResponse writes the answer.
func (s stored) VisitRedriveWebhookEndpointResponse(w http.ResponseWriter) error { return s.write(w) }
