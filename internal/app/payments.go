package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
)

// Subscriptions says who waits for events of transfers: orders, for the end of what pays them.
func Subscriptions() []outbox.Subscription {
	var types []string
	for _, state := range transfer.Transitions.States() {
		if state.Terminal() {
			types = append(types, "transfer."+string(state))
		}
	}
	return []outbox.Subscription{order.Subscription(types...)}
}

// Payments lets orders pay by transfers. Its keys have a space, which no key of a client can have, so the
// two never meet.
type Payments struct{ transfers *transfer.Service }

// NewPayments makes payments by a service that is started.
func NewPayments(transfers *transfer.Service) Payments { return Payments{transfers} }

// paid is what is stored under the key of a payment.
type paid struct {
	ID     uuid.UUID    `json:"id"`
	Code   problem.Code `json:"code,omitempty"`
	Detail string       `json:"detail,omitempty"`
}

// Pay accepts the transfer of an order, once.
func (p Payments) Pay(ctx context.Context, pay order.Payment) (uuid.UUID, error) {
	response, err := p.transfers.Create(ctx, transfer.Create{
		Key: keyed(pay, "pay"), Actor: pay.Actor, Cause: pay.Cause, Render: render,
		Items: []transfer.New{{
			FromAccount: pay.From, ToAccount: pay.To, Amount: pay.Amount, ClientReference: pay.Reference,
		}},
	})
	if err != nil {
		return uuid.Nil, err
	}
	return answer(response)
}

// Reverse cancels the transfer of an order, or accepts its reversal. Reversals of one transfer are bounded
// by its amount, so one that is asked for twice takes nothing twice, under whichever key.
func (p Payments) Reverse(ctx context.Context, pay order.Payment) error {
	t, found, err := p.find(ctx, pay)
	if err != nil || !found {
		return err
	}
	if !t.State.Terminal() {
		if t, err = p.cancel(ctx, pay, t.Ref); err != nil {
			return err
		}
	}
	switch {
	case !t.State.Terminal():
		return fmt.Errorf("transfer %s is still %s", t.ID, t.State)
	case t.State != transfer.Settled || t.Reversed >= t.Amount.Value:
		return nil
	}
	step := fmt.Sprintf("reverse/%d", pay.Attempt)
	response, err := p.transfers.Reverse(ctx, transfer.Reversal{
		Key: keyed(pay, step), ID: t.ID, ClientReference: pay.Reference + "/" + step,
		Actor: pay.Actor, Cause: pay.Cause, Render: render,
	})
	if err == nil {
		_, err = answer(response)
	}
	return err
}

// find reads the transfer that pays an order. One that the order does not know is taken for its payment
// if it is one: anybody may have used the reference.
func (p Payments) find(ctx context.Context, pay order.Payment) (transfer.Transfer, bool, error) {
	if pay.Transfer != uuid.Nil {
		t, err := p.transfers.Get(ctx, transfer.Ref{TenantID: pay.Order.TenantID, ID: pay.Transfer})
		return t, err == nil, err
	}
	page, err := p.transfers.List(ctx, pay.Order.TenantID, transfer.Filter{ClientReference: pay.Reference})
	if err != nil || len(page.Transfers) == 0 {
		return transfer.Transfer{}, false, err
	}
	t := page.Transfers[0]
	return t, t.FromAccount == pay.From && t.ToAccount == pay.To && t.Amount == pay.Amount, nil
}

// cancel ends an open transfer, and reads how it is then: it may have settled meanwhile.
func (p Payments) cancel(
	ctx context.Context, pay order.Payment, ref transfer.Ref,
) (transfer.Transfer, error) {
	_, err := p.transfers.Act(ctx, transfer.Action{
		Key: keyed(pay, "cancel"), ID: ref.ID, Event: transfer.Cancel, Reason: "order canceled",
		Actor: pay.Actor, Cause: pay.Cause,
		Render: func(t transfer.Transfer) idempotency.Response {
			return render([]transfer.Result{{Transfer: t}})
		},
	})
	if err != nil {
		return transfer.Transfer{}, err
	}
	return p.transfers.Get(ctx, ref)
}

// keyed is the key of one step of an order's payment. The key says all that the request does.
func keyed(pay order.Payment, step string) idempotency.Keyed {
	key := "order " + pay.Order.ID.String() + "/" + step
	return idempotency.Keyed{
		Key: idempotency.Key{
			TenantID: pay.Order.TenantID, Key: key, Hash: idempotency.Hash("", "order payment", "1",
				[]byte(key)),
		},
		Refuse: func(e *problem.Error) idempotency.Response {
			return render([]transfer.Result{{Refused: e}})
		},
	}
}

// render stores the one result of a step.
func render(results []transfer.Result) idempotency.Response {
	r, a := results[0], paid{ID: results[0].Transfer.ID}
	status := http.StatusAccepted
	if r.Refused != nil {
		a = paid{Code: r.Refused.Code, Detail: r.Refused.Detail}
		status = problem.MeaningOf(a.Code).Status
	}
	body, err := json.Marshal(a)
	if err != nil {
		body = nil // a struct of texts can always be encoded; answer refuses an empty body
	}
	return idempotency.Response{Status: status, Body: body}
}

// answer reads what render stored.
func answer(response idempotency.Response) (uuid.UUID, error) {
	var a paid
	if err := json.Unmarshal(response.Body, &a); err != nil {
		return uuid.Nil, fmt.Errorf("read stored payment: %w", err)
	}
	if a.Code != "" {
		return uuid.Nil, problem.New(a.Code, "%s", a.Detail)
	}
	return a.ID, nil
}
