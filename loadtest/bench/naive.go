package bench

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/pgtx"
)

// The naive path is how one would write a transfer service on the same schema without a second thought
// about speed: correct, a transaction per request and per step, a statement after the other, and a plain
// River job per transfer with River's defaults. It exists to be measured beside Holdfast.

const (
	naiveConns         = 32
	naiveHeaderMax     = 10 * time.Second
	naiveCallMax       = 5 * time.Second
	naivePromiseWindow = time.Minute
)

type naiveOptions struct {
	tenant, key  string
	works        bool
	risk, notify http.RoundTripper
}

// naive is the naive path's API and worker.
type naive struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	tenant uuid.UUID
	key    string
	works  bool
	server *http.Server
	addr   string
	ended  chan error
}

func newNaive(ctx context.Context, cfg config.Config, o naiveOptions) (*naive, error) {
	tenant, err := uuid.Parse(o.tenant)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tenantVariable, err)
	}
	poolCfg, err := pgxpool.ParseConfig(cfg.DatabaseURL)
	if err != nil {
		return nil, err
	}
	poolCfg.MaxConns = naiveConns
	pool, err := pgxpool.NewWithConfig(ctx, poolCfg)
	if err != nil {
		return nil, err
	}
	n := &naive{pool: pool, tenant: tenant, key: o.key, works: o.works, ended: make(chan error, 1)}
	workers := river.NewWorkers()
	river.AddWorker(workers, &naiveWorker{
		pool: pool, tenant: tenant, risk: client(o.risk), riskURL: cfg.Risk.URL,
		notify: client(o.notify), notifyURL: cfg.Notify.URL,
	})
	n.client, err = river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: cfg.Risk.Limit}},
		Workers: workers, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/transfers", n.create)
	n.server = &http.Server{Addr: cfg.Addr, Handler: mux, ReadHeaderTimeout: naiveHeaderMax}
	return n, nil
}

func client(via http.RoundTripper) *http.Client {
	if via == nil {
		via = &http.Transport{MaxIdleConnsPerHost: dependencyLimit}
	}
	return &http.Client{Transport: via, Timeout: naiveCallMax}
}

// Addr is where it answers.
func (n *naive) Addr() string { return n.addr }

// Start starts the worker, if there is one, and the API.
func (n *naive) Start(ctx context.Context) error {
	if n.works {
		if err := n.client.Start(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", n.server.Addr)
	if err != nil {
		return err
	}
	n.addr = socket.Addr().String()
	go func() { n.ended <- n.server.Serve(socket) }()
	return nil
}

// Stop stops both.
func (n *naive) Stop(ctx context.Context) error {
	err := n.server.Shutdown(ctx)
	if served := <-n.ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if n.works {
		err = errors.Join(err, n.client.StopAndCancel(ctx))
	}
	n.pool.Close()
	return err
}

// naiveTransfer is what the client asks for, and with an id what it gets.
type naiveTransfer struct {
	ID     uuid.UUID `json:"id"`
	Status string    `json:"status"`
	From   uuid.UUID `json:"from_account"`
	To     uuid.UUID `json:"to_account"`
	Amount struct {
		Value    int64  `json:"value"`
		Currency string `json:"currency"`
	} `json:"amount"`
}

var errNaiveFunds = errors.New("insufficient funds or no such account")

// create is the whole API: one transaction per request.
func (n *naive) create(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+n.key)) != 1 {
		http.Error(w, "unauthenticated", http.StatusUnauthorized)
		return
	}
	var t naiveTransfer
	key := r.Header.Get("Idempotency-Key")
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, answerMaxBytes)).Decode(&t)
	if err != nil || key == "" || t.Amount.Value <= 0 || t.From == t.To {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	t.Status = "accepted"
	if t.ID, err = uuid.NewV7(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	body, err := json.Marshal(t)
	if err == nil {
		err = pgtx.Run(r.Context(), n.pool, "naive accept", func(ctx context.Context, tx pgx.Tx) error {
			return n.accept(ctx, tx, t, key, body)
		})
	}
	switch {
	case errors.Is(err, errNaiveFunds):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Location", "/v1/transfers/"+t.ID.String())
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(body) // a client that left asks again
	}
}

// accept stores key, hold, transfer, event and job, each by its own statement.
func (n *naive) accept(ctx context.Context, tx pgx.Tx, t naiveTransfer, key string, body []byte) error {
	hash := sha256.Sum256(body)
	if _, err := tx.Exec(ctx, `INSERT INTO idempotency_keys
		(tenant_id, key, request_sha256, status, location, body, created_at)
		VALUES ($1, $2, $3, 202, $4, $5, clock_timestamp())`,
		n.tenant, key, hash[:], "/v1/transfers/"+t.ID.String(), body); err != nil {
		return fmt.Errorf("store key: %w", err)
	}
	held, err := tx.Exec(ctx, `UPDATE balances SET held = held + $3
		WHERE tenant_id = $1 AND account_id = $2 AND status = 'active' AND posted - held - $3 >= floor`,
		n.tenant, t.From, t.Amount.Value)
	if err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	if held.RowsAffected() != 1 {
		return errNaiveFunds
	}
	promise := fmt.Sprintf("%d seconds", int(naivePromiseWindow.Seconds()))
	if _, err := tx.Exec(ctx, `INSERT INTO holds
		(tenant_id, id, account_id, amount, expires_at, created_at, updated_at)
		VALUES ($1, $2, $3, $4, clock_timestamp() + $5::interval, clock_timestamp(), clock_timestamp())`,
		n.tenant, t.ID, t.From, t.Amount.Value, promise); err != nil {
		return fmt.Errorf("store hold: %w", err)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO transfers
		(tenant_id, id, from_account, to_account, amount, currency, state, version, wake_at, promise_at,
		 created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, 'accepted', 1, clock_timestamp(), clock_timestamp() + $7::interval,
		 clock_timestamp(), clock_timestamp())`,
		n.tenant, t.ID, t.From, t.To, t.Amount.Value, t.Amount.Currency, promise); err != nil {
		return fmt.Errorf("store transfer: %w", err)
	}
	if err := naiveEvent(ctx, tx, n.tenant, t.ID, naiveMoved{1, "", "accepted"}); err != nil {
		return err
	}
	if _, err := n.client.InsertTx(ctx, tx, naiveJob{TransferID: t.ID}, nil); err != nil {
		return fmt.Errorf("store job: %w", err)
	}
	return nil
}

// naiveMoved is a move of a transfer as its event tells it.
type naiveMoved struct {
	seq      int
	from, to string
}

func naiveEvent(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, m naiveMoved) error {
	_, err := tx.Exec(ctx, `INSERT INTO events
		(tenant_id, aggregate_id, seq, type, from_state, to_state, actor, at)
		VALUES ($1, $2, $3, $4, nullif($5, ''), $6, 'naive', clock_timestamp())`,
		tenant, id, m.seq, "transfer."+m.to, m.from, m.to)
	if err != nil {
		return fmt.Errorf("store event: %w", err)
	}
	return nil
}
