package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/slots"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/webhook"
)

// The reasons of dead letters that no row has.
const (
	reasonNotNotified = "notification_failed"
	reasonJobTries    = "attempts_exhausted"
	reasonNotTaken    = "not_taken"
)

// deadOrders is what the order domain tells of what it gave up.
type deadOrders interface {
	DeadLetters(ctx context.Context, limit int) ([]order.Order, error)
}

// deadTransfers is what the transfer domain tells of what it gave up.
type deadTransfers interface {
	DeadLetters(ctx context.Context, limit int) ([]transfer.Transfer, error)
	Tried(ctx context.Context, transfers []transfer.Ref) (map[transfer.Ref]transfer.Tried, error)
}

// deadWebhooks is what the webhooks tell of what they gave up.
type deadWebhooks interface {
	DeadAll(ctx context.Context, limit int) ([]webhook.DeadOf, error)
}

// Operations is what operators look at and change beside transfers, on the admin listener and by the command.
type Operations struct {
	pool      *pgxpool.Pool
	transfers deadTransfers
	orders    deadOrders
	webhooks  deadWebhooks
	doors     *doors
}

// NewOperations makes operations for a program that calls no dependency.
func NewOperations(pool *pgxpool.Pool, transfers *transfer.Service, orders *order.Service) *Operations {
	return operationsOf(pool, transfers, orders, &doors{})
}

func operationsOf(
	pool *pgxpool.Pool, transfers *transfer.Service, orders *order.Service, doors *doors,
) *Operations {
	reader := webhook.NewService(pool, webhook.Options{}) // nothing is made by it
	return &Operations{pool: pool, transfers: transfers, orders: orders, webhooks: reader, doors: doors}
}

// Dependencies reads the limits in force, who has places, and how the doors of this process are, in the order
// of their names. A dependency with a door but no limit yet is among them.
func (o *Operations) Dependencies(ctx context.Context) ([]httpapi.Dependency, error) {
	limits, err := slots.Limits(ctx, o.pool)
	if err != nil {
		return nil, err
	}
	byName := map[string]httpapi.Dependency{}
	for _, l := range limits {
		limit := limitOf(l)
		d := httpapi.Dependency{Name: l.Dependency, Limit: &limit}
		for _, h := range l.Holdings {
			d.Holders = append(d.Holders, httpapi.Holder{Name: h.Holder, Places: h.Slots})
		}
		byName[l.Dependency] = d
	}
	for _, h := range o.doors.look() {
		d := byName[h.Dependency]
		d.Name, d.Door, d.Conditions = h.Dependency, doorOf(h), h.Conditions()
		byName[h.Dependency] = d
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b httpapi.Dependency) int {
		return strings.Compare(a.Name, b.Name)
	}), nil
}

func limitOf(l slots.Limit) httpapi.Limit {
	return httpapi.Limit{
		Places: l.Places, Version: l.Version, Actor: l.Actor, Reason: l.Reason, SetAt: l.SetAt,
	}
}

// SetLimit sets a limit once per key.
func (o *Operations) SetLimit(
	ctx context.Context, key idempotency.Keyed, c httpapi.LimitChange,
	render func(httpapi.Limit) idempotency.Response,
) (idempotency.Response, error) {
	return idempotency.Run(ctx, o.pool, "set limit", key,
		func(ctx context.Context, tx pgx.Tx, _ time.Time) (idempotency.Response, error) {
			set, err := slots.AppendLimit(ctx, tx, slots.Change(c))
			if err != nil {
				return idempotency.Response{}, err
			}
			return render(limitOf(set)), nil
		})
}

// Queues reads how long due work has waited.
func (o *Operations) Queues(ctx context.Context) ([]httpapi.Queue, error) {
	var out []httpapi.Queue
	for _, name := range jobqueue.Queues() {
		ages, err := jobqueue.ReadyAges(ctx, o.pool, name)
		if err != nil {
			return nil, err
		}
		out = append(out, httpapi.Queue{Name: name, Ages: ages[:]})
	}
	return out, nil
}

// Busiest reads which tenants have the most open work.
func (o *Operations) Busiest(ctx context.Context) ([]httpapi.BusyTenant, error) {
	transfers, err := transfer.ReadPromises(ctx, o.pool)
	if err != nil {
		return nil, err
	}
	orders, err := order.ReadPromises(ctx, o.pool)
	if err != nil {
		return nil, err
	}
	return busiest(transfers, orders), nil
}

// DeadLetters reads the latest of each kind, and keeps the latest of all.
func (o *Operations) DeadLetters(ctx context.Context, limit int) ([]httpapi.DeadLetter, error) {
	var all []httpapi.DeadLetter
	for _, read := range o.graveyards() {
		found, err := read(ctx, limit)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.SortStableFunc(all, func(a, b httpapi.DeadLetter) int { return b.At.Compare(a.At) })
	return all[:min(limit, len(all))], nil
}

// graveyards read the latest of each kind that was given up.
func (o *Operations) graveyards() []func(context.Context, int) ([]httpapi.DeadLetter, error) {
	return []func(context.Context, int) ([]httpapi.DeadLetter, error){
		o.givenUpTransfers, o.givenUpOrders, o.givenUpDeliveries, o.givenUpJobs, o.givenUpWebhooks,
	}
}

func (o *Operations) givenUpTransfers(ctx context.Context, limit int) ([]httpapi.DeadLetter, error) {
	dead, err := o.transfers.DeadLetters(ctx, limit)
	if err != nil {
		return nil, err
	}
	refs := make([]transfer.Ref, len(dead))
	for i, t := range dead {
		refs[i] = t.Ref
	}
	tried, err := o.transfers.Tried(ctx, refs)
	if err != nil {
		return nil, err
	}
	out := make([]httpapi.DeadLetter, len(dead))
	for i, t := range dead {
		out[i] = deadTransfer(t, tried[t.Ref])
	}
	return out, nil
}

// deadTransfer says why and when a transfer was given up. What was tried in vain after its last move was
// about the step that is given up now.
func deadTransfer(t transfer.Transfer, tried transfer.Tried) httpapi.DeadLetter {
	out := httpapi.DeadLetter{
		Kind: httpapi.DeadTransfer, TenantID: t.TenantID, ID: t.ID.String(), Status: string(t.State),
		Reason: t.Reason, Attempts: tried.Times, At: t.UpdatedAt,
	}
	if tried.Times > 0 {
		out.LastError = fmt.Sprintf("%s: %s: %s", tried.Last.Step, tried.Last.Kind, tried.Last.Detail)
	}
	ended := t.Reason == transfer.ReasonPoison || t.Reason == transfer.ReasonAttempts
	switch {
	case ended:
		return out
	case t.Notification == transfer.NotificationFailed:
		out.Reason = reasonNotNotified
	default:
		out.Reason = transfer.ReasonPoison
	}
	if tried.Last.At.After(out.At) {
		out.At = tried.Last.At
	}
	return out
}

// givenUpOrders has no attempts in detail: the order domain keeps no ledger of them.
func (o *Operations) givenUpOrders(ctx context.Context, limit int) ([]httpapi.DeadLetter, error) {
	dead, err := o.orders.DeadLetters(ctx, limit)
	if err != nil {
		return nil, err
	}
	out := make([]httpapi.DeadLetter, len(dead))
	for i, d := range dead {
		out[i] = httpapi.DeadLetter{
			Kind: httpapi.DeadOrder, TenantID: d.TenantID, ID: d.ID.String(), Status: string(d.State),
			Reason: string(order.ReasonPoison), Attempts: int(d.Attempts), At: d.UpdatedAt,
		}
	}
	return out, nil
}

func (o *Operations) givenUpDeliveries(ctx context.Context, limit int) ([]httpapi.DeadLetter, error) {
	dead, err := outbox.DeadDeliveries(ctx, o.pool, limit)
	if err != nil {
		return nil, err
	}
	out := make([]httpapi.DeadLetter, len(dead))
	for i, d := range dead {
		out[i] = httpapi.DeadLetter{
			Kind: httpapi.DeadDelivery, TenantID: d.TenantID, ID: fmt.Sprintf("%s/%d", d.AggregateID, d.Seq),
			Event: d.Type, Consumer: d.Consumer, Reason: string(order.ReasonPoison),
			Attempts: int(d.Attempts), At: d.At,
		}
	}
	return out, nil
}

func (o *Operations) givenUpJobs(ctx context.Context, limit int) ([]httpapi.DeadLetter, error) {
	dead, err := jobqueue.Discarded(ctx, o.pool, limit)
	if err != nil {
		return nil, err
	}
	out := make([]httpapi.DeadLetter, len(dead))
	for i, j := range dead {
		out[i] = httpapi.DeadLetter{
			Kind: httpapi.DeadJob, ID: strconv.FormatInt(j.ID, 10), Job: j.Kind, Queue: j.Queue,
			Reason: reasonJobTries, Attempts: int(j.Attempts), LastError: j.LastError, At: j.At,
		}
	}
	return out, nil
}

func (o *Operations) givenUpWebhooks(ctx context.Context, limit int) ([]httpapi.DeadLetter, error) {
	dead, err := o.webhooks.DeadAll(ctx, limit)
	if err != nil {
		return nil, err
	}
	out := make([]httpapi.DeadLetter, len(dead))
	for i, d := range dead {
		out[i] = httpapi.DeadLetter{
			Kind: httpapi.DeadWebhook, TenantID: d.Endpoint.TenantID, ID: d.EventID, Event: d.EventType,
			Consumer: d.Endpoint.ID.String(), Reason: reasonNotTaken, Attempts: d.Attempts,
			LastError: d.LastError, At: d.DeadAt,
		}
	}
	return out, nil
}

// Outbox reads how far the way out of events is behind.
func (o *Operations) Outbox(ctx context.Context) (outbox.Lag, error) {
	return outbox.ReadLag(ctx, o.pool, consumers()...)
}
