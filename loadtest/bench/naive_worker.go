package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"example.com/holdfast/internal/pgtx"
)

// naiveJob takes one transfer from accepted to its end.
type naiveJob struct {
	TransferID uuid.UUID `json:"transfer_id"`
}

// Kind names the job in River's table.
func (naiveJob) Kind() string { return "naive_transfer" }

type naiveWorker struct {
	river.WorkerDefaults[naiveJob]

	pool               *pgxpool.Pool
	tenant             uuid.UUID
	risk, notify       *http.Client
	riskURL, notifyURL string
}

// naiveRow is what the worker reads of its transfer.
type naiveRow struct {
	from, to uuid.UUID
	amount   int64
	currency string
	state    string
	notified string
}

// Work does what is left to do, a transaction for each step.
func (w *naiveWorker) Work(ctx context.Context, job *river.Job[naiveJob]) error {
	id := job.Args.TransferID
	var t naiveRow
	err := w.pool.QueryRow(ctx, `SELECT from_account, to_account, amount, currency, state, notification
		FROM transfers WHERE tenant_id = $1 AND id = $2`, w.tenant, id).
		Scan(&t.from, &t.to, &t.amount, &t.currency, &t.state, &t.notified)
	if err != nil {
		return fmt.Errorf("read transfer: %w", err)
	}
	if t.state == "accepted" {
		if err := w.screen(ctx, id, t); err != nil {
			return err
		}
		t.state = "approved"
	}
	if t.state == "approved" {
		err := pgtx.Run(ctx, w.pool, "naive settle", func(ctx context.Context, tx pgx.Tx) error {
			return w.settle(ctx, tx, id, t)
		})
		if err != nil {
			return err
		}
		t.state, t.notified = "settled", "pending"
	}
	if t.notified == "pending" {
		return w.tell(ctx, id)
	}
	return nil
}

var (
	errNaiveCall     = errors.New("dependency answered with an error")
	errNaiveDecision = errors.New("risk service did not approve")
	errNaiveMoved    = errors.New("transfer is not what it was")
)

func (w *naiveWorker) screen(ctx context.Context, id uuid.UUID, t naiveRow) error {
	reply, err := naiveCall(ctx, w.risk, w.riskURL+"/v1/screenings", id.String()+"/screen", map[string]any{
		"transfer_id": id, "tenant_id": w.tenant, "from_account": t.from, "to_account": t.to,
		"amount_value": t.amount, "currency": t.currency,
	})
	if err != nil {
		return err
	}
	var decision struct {
		Outcome   string `json:"outcome"`
		Reference string `json:"reference"`
	}
	if err := json.Unmarshal(reply, &decision); err != nil {
		return err
	}
	if decision.Outcome != "approve" {
		return errNaiveDecision
	}
	return pgtx.Run(ctx, w.pool, "naive approve", func(ctx context.Context, tx pgx.Tx) error {
		err := naiveMove(ctx, tx, `UPDATE transfers
			SET state = 'approved', version = 2, risk_reference = $3, updated_at = clock_timestamp()
			WHERE tenant_id = $1 AND id = $2 AND state = 'accepted'`, w.tenant, id, decision.Reference)
		if err != nil {
			return err
		}
		return naiveEvent(ctx, tx, w.tenant, id, naiveMoved{2, "accepted", "approved"})
	})
}

// settle turns the hold into postings: both balances locked in id order, then a statement after the other.
func (w *naiveWorker) settle(ctx context.Context, tx pgx.Tx, id uuid.UUID, t naiveRow) error {
	rows, err := tx.Query(ctx, `SELECT account_id FROM balances
		WHERE tenant_id = $1 AND account_id IN ($2, $3) ORDER BY account_id FOR NO KEY UPDATE`,
		w.tenant, t.from, t.to)
	if err != nil {
		return fmt.Errorf("lock balances: %w", err)
	}
	if _, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
		return fmt.Errorf("lock balances: %w", err)
	}
	err = naiveMove(ctx, tx, `UPDATE transfers SET state = 'settled', version = 3, notification = 'pending',
			wake_at = clock_timestamp(), updated_at = clock_timestamp()
		WHERE tenant_id = $1 AND id = $2 AND state = 'approved'`, w.tenant, id)
	if err != nil {
		return err
	}
	err = naiveMove(ctx, tx, `UPDATE holds
		SET status = 'captured', captured = amount, updated_at = clock_timestamp()
		WHERE tenant_id = $1 AND id = $2 AND status = 'active'`, w.tenant, id)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO entries (tenant_id, id, kind, at)
		VALUES ($1, $2, 'transfer', clock_timestamp())`, w.tenant, id); err != nil {
		return fmt.Errorf("store entry: %w", err)
	}
	if err := w.post(ctx, tx, id, posting{t.from, -t.amount, t.amount, t.currency}); err != nil {
		return err
	}
	if err := w.post(ctx, tx, id, posting{t.to, t.amount, 0, t.currency}); err != nil {
		return err
	}
	return naiveEvent(ctx, tx, w.tenant, id, naiveMoved{3, "approved", "settled"})
}

type posting struct {
	account        uuid.UUID
	amount, unhold int64
	currency       string
}

func (w *naiveWorker) post(ctx context.Context, tx pgx.Tx, id uuid.UUID, p posting) error {
	var version, after int64
	err := tx.QueryRow(ctx, `UPDATE balances
		SET posted = posted + $3, held = held - $4, version = version + 1
		WHERE tenant_id = $1 AND account_id = $2 RETURNING version, posted`,
		w.tenant, p.account, p.amount, p.unhold).Scan(&version, &after)
	if err != nil {
		return fmt.Errorf("move balance: %w", err)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO postings
		(tenant_id, account_id, account_version, entry_id, amount, posted_after, currency, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp())`,
		w.tenant, p.account, version, id, p.amount, after, p.currency); err != nil {
		return fmt.Errorf("store posting: %w", err)
	}
	return nil
}

func (w *naiveWorker) tell(ctx context.Context, id uuid.UUID) error {
	_, err := naiveCall(ctx, w.notify, w.notifyURL+"/v1/notifications", id.String()+"/notify", map[string]any{
		"transfer_id": id, "tenant_id": w.tenant, "event": "transfer.settled", "state": "settled",
	})
	if err != nil {
		return err
	}
	return pgtx.Run(ctx, w.pool, "naive note", func(ctx context.Context, tx pgx.Tx) error {
		return naiveMove(ctx, tx, `UPDATE transfers SET notification = 'sent', wake_at = NULL
			WHERE tenant_id = $1 AND id = $2 AND notification = 'pending'`, w.tenant, id)
	})
}

// naiveMove runs a guarded statement that has to reach one row.
func naiveMove(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	tag, err := tx.Exec(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("move transfer: %w", err)
	}
	if tag.RowsAffected() != 1 {
		return errNaiveMoved
	}
	return nil
}

func naiveCall(ctx context.Context, c *http.Client, url, key string, body map[string]any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", key)
	reply, err := c.Do(r)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", url, err)
	}
	defer func() { _ = reply.Body.Close() }()
	got, err := io.ReadAll(io.LimitReader(reply.Body, answerMaxBytes))
	if err == nil && reply.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("call %s: status %d: %w", url, reply.StatusCode, errNaiveCall)
	}
	return got, err
}
