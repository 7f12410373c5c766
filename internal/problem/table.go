package problem

// The advice that several codes share, or that is long.
const (
	adviceSignIn = "Send Authorization: Bearer with a valid key."
	adviceScope  = "Use a key with the scope that the detail names."
	adviceKey    = "Use 1 to 255 bytes of visible ASCII."
	adviceID     = "Check the id; other tenants' ids are not found either."
	adviceCursor = "What came after the cursor is not kept. Read how things are, and begin again without one."
	adviceFix    = "Correct the request and send it again; nothing was stored, so the key may be used again."
	adviceFinal  = "The refusal is stored under the key. Change what it names, then use a new key."
	adviceAgain  = "Nothing is lost: send the same request with the same key after Retry-After."
	adviceDoor   = "Refused unseen: it did nothing; one before it with the same key may have. " + adviceSame
	adviceSame   = "Send the same request with the same key after Retry-After; a new key could do it twice."
)

// Table lists every code with its meaning, in the order in which requests are checked.
func Table() []Meaning {
	return []Meaning{
		{BodyTooLarge, 413, "Body too large", false, true, false, adviceFix},
		{RequestTimeout, 408, "Request took too long to arrive", true, false, false, adviceDoor},
		{RouteNotFound, 404, "No such route", false, true, false, "See the API reference at /docs."},
		{MethodNotAllowed, 405, "Method not allowed", false, true, false, "See the Allow header."},
		{Unauthenticated, 401, "No valid API key", false, true, false, adviceSignIn},
		{Forbidden, 403, "API key lacks the scope", false, true, false, adviceScope},
		{RateLimited, 429, "Too many requests", true, false, false, adviceDoor},
		{Overloaded, 503, "Overloaded", true, false, false, adviceDoor},
		{RefusedByMode, 503, "Refused in this mode", true, false, false, adviceDoor},
		{UnsupportedMediaType, 415, "Unsupported media type", false, true, false, "Send application/json."},
		{MalformedRequest, 400, "Malformed request", false, true, false, adviceFix},
		{KeyMissing, 400, "Idempotency-Key missing", false, true, false, "Send an Idempotency-Key header."},
		{KeyInvalid, 400, "Idempotency-Key invalid", false, true, false, adviceKey},
		{ValidationFailed, 422, "Request not valid", false, true, false, adviceFix},
		{
			WebhooksUnavailable, 503, "Webhooks not set up", true, false, false,
			"Whoever runs this installation has to set a key for webhooks; nothing was stored.",
		},
		{
			KeyReused, 409, "Idempotency-Key used for another request", false, true, false,
			"The key belongs to another request and its outcome stands. Use a new key.",
		},
		{KeyInProgress, 409, "First request still in progress", true, false, false, adviceAgain},
		{NotFound, 404, "Not found", false, true, false, adviceID},
		{CursorExpired, 410, "Cursor older than the log", false, true, false, adviceCursor},
		{ReferenceUsed, 409, "client_reference already used", false, true, true, adviceFinal},
		{SKUCodeUsed, 409, "SKU code already used", false, true, true, adviceFinal},
		{SKUNotFound, 404, "SKU not found", false, true, true, adviceFinal},
		{TotalOverflow, 422, "Total too large", false, true, true, adviceFinal},
		{AccountNotFound, 404, "Account not found", false, true, true, adviceFinal},
		{CurrencyMismatch, 422, "Currency mismatch", false, true, true, adviceFinal},
		{AccountFrozen, 422, "Account frozen", false, true, true, adviceFinal},
		{AccountClosed, 422, "Account closed", false, true, true, adviceFinal},
		{AccountExternal, 422, "Account is outside", false, true, true, adviceFinal},
		{AccountNotEmpty, 409, "Account not empty", false, true, true, adviceFinal},
		{SlotNotFound, 404, "Delivery slot not found", false, true, true, adviceFinal},
		{SlotElsewhere, 422, "Delivery slot of another location", false, true, true, adviceFinal},
		{SlotClosed, 422, "Delivery slot closed", false, true, true, adviceFinal},
		{SlotFull, 422, "Delivery slot full", false, true, true, adviceFinal},
		{InsufficientStock, 422, "Insufficient stock", false, true, true, adviceFinal},
		{NotReversible, 409, "Transfer cannot be reversed", false, true, true, adviceFinal},
		{ReversalTooLarge, 422, "Reversal larger than what is left", false, true, true, adviceFinal},
		{BalanceOverflow, 422, "Balance would overflow", false, true, true, adviceFinal},
		{InsufficientFunds, 422, "Insufficient funds", false, true, true, adviceFinal},
		{IllegalTransition, 409, "Not possible in this state", false, true, true, adviceFinal},
		{
			DeadlineExceeded, 504, "Deadline exceeded", true, false, false,
			"The outcome is not known to you yet: send the same request with the same key.",
		},
		{
			Unavailable, 503, "Temporarily unavailable", true, false, false,
			"The outcome is not known to you yet: send the same request with the same key after Retry-After.",
		},
		{
			Internal, 500, "Internal error", true, false, false,
			"The outcome is not known to you yet: send the same request with the same key.",
		},
	}
}

// MeaningOf looks a code up; an unknown code means Internal.
func MeaningOf(code Code) Meaning {
	table := Table()
	for _, m := range table {
		if m.Code == code {
			return m
		}
	}
	return table[len(table)-1]
}
