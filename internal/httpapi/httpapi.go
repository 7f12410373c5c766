// Package httpapi is the HTTP side of Holdfast: the public API and the admin listener, as their
// contracts in api/ say.
//
// routes.go shows every operation with what it needs. In front of an operation the same steps run in
// the same order (steps.go): sign-in, scope, rate, admission, body, key. An operation decodes, calls a
// service and returns a value or an error; answers that say no are written in one place (problem.go).
// The package refuses to know SQL, to decide anything about money or stock, and to trust a body: what is not
// strictly in the contract is refused before a service sees it.
//
// Invariants: every response that is not 2xx is a problem of the closed table, except the
// documents' and the readiness report; no text of an internal error reaches a client; every request
// has a deadline, a bound on its body, and one log line.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/internal/transfer"
)

// Keys says who holds a key.
type Keys interface {
	Authenticate(ctx context.Context, plain string) (tenancy.Principal, error)
	AuthenticateAdmin(ctx context.Context, plain string) (tenancy.Admin, error)
}

// TransferWriter creates transfers.
type TransferWriter interface {
	Create(ctx context.Context, c transfer.Create) (idempotency.Response, error)
	Reverse(ctx context.Context, r transfer.Reversal) (idempotency.Response, error)
	Preview(ctx context.Context, tenantID uuid.UUID, items []transfer.New) ([]transfer.Result, error)
}

// TransferReader reads transfers.
type TransferReader interface {
	Get(ctx context.Context, ref transfer.Ref) (transfer.Transfer, error)
	Wait(ctx context.Context, ref transfer.Ref, maxWait time.Duration) (transfer.Transfer, error)
	List(ctx context.Context, tenantID uuid.UUID, f transfer.Filter) (transfer.Page, error)
}

// TransferDesk moves transfers for people and tells what happened to them.
type TransferDesk interface {
	Act(ctx context.Context, a transfer.Action) (idempotency.Response, error)
	Events(ctx context.Context, ref transfer.Ref, after int32) ([]outbox.Event, error)
	Reviews(ctx context.Context, limit int) ([]transfer.Transfer, error)
}

// TransferCare is for transfers that wait for a dependency.
type TransferCare interface {
	// Wake lets a payout be looked at now whose reference the rail has called back about. It changes nothing
	// of a transfer that does not wait for the rail under that reference.
	Wake(ctx context.Context, ref transfer.Ref, reference string) error
	// Attempts are the calls for a transfer that gave no answer, in their order.
	Attempts(ctx context.Context, ref transfer.Ref) ([]transfer.Attempt, error)
}

// Postures says what happens to transfers when their risk cannot be asked about.
type Postures interface {
	// Postures are the versions of a tenant's postures, the latest of each currency first.
	Postures(ctx context.Context, tenantID uuid.UUID, limit int) ([]transfer.Posture, error)
	ChangePosture(
		ctx context.Context, key idempotency.Keyed, p transfer.Posture,
		render func(transfer.Posture) idempotency.Response,
	) (idempotency.Response, error)
}

// Transfers is the transfer service.
type Transfers interface {
	TransferWriter
	TransferReader
	TransferDesk
	TransferCare
	Postures
}

// AccountWriter opens and changes accounts.
type AccountWriter interface {
	Create(
		ctx context.Context, key idempotency.Keyed, n ledger.NewAccount,
		render func(ledger.Account) idempotency.Response,
	) (idempotency.Response, error)
	SetStatus(
		ctx context.Context, key idempotency.Keyed, id uuid.UUID, status string,
		render func(ledger.Account) idempotency.Response,
	) (idempotency.Response, error)
}

// AccountReader reads accounts.
type AccountReader interface {
	Account(ctx context.Context, ref ledger.Ref) (ledger.Account, error)
	Accounts(ctx context.Context, tenantID, after uuid.UUID, limit int) ([]ledger.Account, error)
}

// AccountHistory reads what happened on accounts.
type AccountHistory interface {
	Postings(ctx context.Context, ref ledger.Ref, before int64, limit int) ([]ledger.Posting, error)
	BalanceAt(ctx context.Context, ref ledger.Ref, at time.Time) (ledger.PostedBalance, error)
}

// Accounts is the ledger service.
type Accounts interface {
	AccountWriter
	AccountReader
	AccountHistory
}

// OrderWriter places orders.
type OrderWriter interface {
	Create(ctx context.Context, c order.Create) (idempotency.Response, error)
	Preview(ctx context.Context, tenantID uuid.UUID, items []order.New) ([]order.Result, error)
}

// OrderReader reads orders.
type OrderReader interface {
	Get(ctx context.Context, ref order.Ref) (order.Order, error)
	Wait(ctx context.Context, ref order.Ref, maxWait time.Duration) (order.Order, error)
	List(ctx context.Context, tenantID uuid.UUID, f order.Filter) (order.Page, error)
}

// OrderDesk moves orders for people and tells what happened to them.
type OrderDesk interface {
	Act(ctx context.Context, a order.Action) (idempotency.Response, error)
	Events(ctx context.Context, ref order.Ref, after int32) ([]outbox.Event, error)
}

// Orders is the order service.
type Orders interface {
	OrderWriter
	OrderReader
	OrderDesk
}

// Catalogue adds and reads SKUs.
type Catalogue interface {
	CreateSKU(
		ctx context.Context, key idempotency.Keyed, n inventory.NewSKU,
		render func(inventory.SKU) idempotency.Response,
	) (idempotency.Response, error)
	SKU(ctx context.Context, ref inventory.Ref) (inventory.SKU, error)
	SKUs(ctx context.Context, tenantID, after uuid.UUID, limit int) ([]inventory.SKU, error)
}

// Store reads and changes how much of an SKU is where.
type Store interface {
	Stock(ctx context.Context, ref inventory.Ref) ([]inventory.Stock, error)
	ChangeStock(
		ctx context.Context, key idempotency.Keyed, c inventory.Change,
		render func(inventory.Stock) idempotency.Response,
	) (idempotency.Response, error)
}

// Delivery opens, closes and reads delivery slots.
type Delivery interface {
	CreateSlot(
		ctx context.Context, key idempotency.Keyed, n inventory.NewSlot,
		render func(inventory.Slot) idempotency.Response,
	) (idempotency.Response, error)
	CloseSlot(
		ctx context.Context, key idempotency.Keyed, id uuid.UUID,
		render func(inventory.Slot) idempotency.Response,
	) (idempotency.Response, error)
	Slots(
		ctx context.Context, tenantID uuid.UUID, location string, after uuid.UUID, limit int,
	) ([]inventory.Slot, error)
}

// Inventory is the inventory service.
type Inventory interface {
	Catalogue
	Store
	Delivery
}

// Metrics counts requests.
type Metrics interface {
	// Request counts an answered request; the route is "POST /v1/transfers", or "none".
	Request(route, status string, took time.Duration)
	// Failed counts one whose answer says that we could not do it, or do not know. A refusal is none.
	Failed()
	// Shed counts a request that was refused at once, for its reason.
	Shed(reason string)
}

// Check is one part that has to work before this instance takes traffic.
type Check struct {
	Name string
	// Run says why the part is not ready, or nil. It has checkMax to answer.
	Run func(context.Context) error
}

// Creation is what a request creates, and so where its work will wait.
type Creation string

// The creations. A reversal is a transfer.
const (
	CreatesTransfer Creation = "transfer"
	CreatesOrder    Creation = "order"
	CreatesOther    Creation = "other"
)

// Admission is a request that would create work, before its body is read.
type Admission struct {
	TenantID uuid.UUID
	// Class is the traffic class of its key.
	Class   string
	Creates Creation
}

// The limits that a Config may change.
const (
	// DefaultInFlightMax is how many requests one listener works on at once; a tenant has at most a quarter
	// of them (see room).
	DefaultInFlightMax = 2_048
	// DefaultWaitersMax is how many of them may wait for the end of a transfer or an order.
	DefaultWaitersMax = 1_024
	// DefaultStreamsMax is how many streams of events a listener has open; a tenant has at most a sixteenth
	// of them (see openStream).
	DefaultStreamsMax = 1_024
	// DefaultRatePerSecond is how many requests per second a tenant may send, and its burst.
	DefaultRatePerSecond = 20_000
)

// Config is what a listener works with. Keys, Transfers, Now and Log have to be there; the public listener
// needs Accounts, Orders and Inventory, and the admin listener Dependencies, Backlog and Modes. What needs
// Feed or Webhooks is unavailable without them.
type Config struct {
	Keys         Keys
	Transfers    Transfers
	Accounts     Accounts
	Orders       Orders
	Inventory    Inventory
	Dependencies Dependencies
	Backlog      Backlog
	Modes        Modes
	// Feed is the log of events, and Encode writes its events as messages.
	Feed     Feed
	Encode   Encode
	Webhooks Webhooks
	// Admit is asked before a creating request is read; an error is its answer. Nil admits all.
	Admit func(Admission) error
	// Mode is asked before that, and for what changes and lists too: an error is the answer of the mode that
	// the service is in. Nil lets all pass, as the admin listener does.
	Mode func(mode.Work, tenancy.Class) error
	// Known says whether an answer is stored under a key of a tenant: such a request passes though Admit or
	// Mode refuses it. It answers soon, with no if it does not know. Nil knows none.
	Known func(ctx context.Context, tenantID uuid.UUID, key string) bool
	// Self is what /admin/v1/status tells of this process.
	Self Self
	// Checks are what /readyz of the admin listener runs.
	Checks []Check
	// InFlightMax, WaitersMax, StreamsMax and RatePerSecond are the defaults above when they are zero.
	InFlightMax   int
	WaitersMax    int
	StreamsMax    int
	RatePerSecond int
	// Ending is closed when this instance stops: who follows events is let go. Nil is never.
	Ending <-chan struct{}
	// PayoutCallbackSecret is what the payout rail signs its callbacks with. Without one there are none.
	PayoutCallbackSecret string
	// KeyReusedStatus is the status of idempotency_key_reused: 409 when it is zero, or 422 as the
	// IETF draft says.
	KeyReusedStatus int
	// Metrics may be nil.
	Metrics Metrics
	Now     func() time.Time
	Log     *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.InFlightMax == 0 {
		c.InFlightMax = DefaultInFlightMax
	}
	if c.WaitersMax == 0 {
		c.WaitersMax = DefaultWaitersMax
	}
	if c.StreamsMax == 0 {
		c.StreamsMax = DefaultStreamsMax
	}
	if c.RatePerSecond == 0 {
		c.RatePerSecond = DefaultRatePerSecond
	}
	if c.Admit == nil {
		c.Admit = func(Admission) error { return nil }
	}
	if c.Metrics == nil {
		c.Metrics = noMetrics{}
	}
	return c
}

type noMetrics struct{}

func (noMetrics) Request(string, string, time.Duration) {}
func (noMetrics) Failed()                               {}
func (noMetrics) Shed(string)                           {}

// The timeouts of a server. A route's budget ends before any of the whole-request ones; a stream has its own
// in their place.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 40 * time.Second
	writeTimeout      = 45 * time.Second
	idleTimeout       = 2 * time.Minute
	headerMaxBytes    = 16 << 10
)

// NewServer is a server for a handler of this package, with its timeouts and limits.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerMaxBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
