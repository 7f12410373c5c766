package transfer

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// Attempt is a call that gave no answer, as the ledger of attempts has it.
type Attempt struct {
	// Step is screen, payout, settle or notify; Kind is how the call ended, or that the step broke or was
	// held up.
	Step, Kind string
	Detail     string
	At         time.Time
}

// The ledger of attempts is kept for attemptsKept, and cleaned in batches.
const (
	attemptsKept      = 7 * 24 * time.Hour
	cleanUpBatchRows  = 1_000
	cleanUpBatchesMax = 20
)

// Attempts reads what was tried for a transfer in vain, in its order.
func (s *Service) Attempts(ctx context.Context, ref Ref) ([]Attempt, error) {
	if _, err := s.Get(ctx, ref); err != nil {
		return nil, err
	}
	rows, err := transferdb.New().ListAttempts(ctx, s.pool, transferdb.ListAttemptsParams{
		TenantID: ref.TenantID, TransferID: ref.ID, PageSize: PageMaxRows,
	})
	if err != nil {
		return nil, fmt.Errorf("list attempts of transfer %s: %w", ref.ID, err)
	}
	attempts := make([]Attempt, len(rows))
	for i, r := range rows {
		attempts[i] = Attempt{Step: r.Step, Kind: r.Kind, Detail: r.Detail, At: r.At}
	}
	return attempts, nil
}

// DeadLetters reads the transfers of all tenants that were given up, the latest first: those that ended as
// poison or out of attempts, those that are poison while the rail has them, and those whose notification
// failed.
func (s *Service) DeadLetters(ctx context.Context, limit int) ([]Transfer, error) {
	rows, err := transferdb.New().SystemDeadLetters(ctx, s.pool, pageSize(limit))
	if err != nil {
		return nil, fmt.Errorf("list dead transfers: %w", err)
	}
	return fromRows(rows), nil
}

// Tried is what was tried for a transfer in vain: how often, up to triedMax, and the last attempt.
type Tried struct {
	Times int
	Last  Attempt
}

// triedMax bounds how many attempts of a transfer are counted: a payout that nobody knows of is asked about
// without an end.
const triedMax = 1_000

// Tried reads what the ledger of attempts has of some transfers. Those that it has nothing of are missing.
func (s *Service) Tried(ctx context.Context, transfers []Ref) (map[Ref]Tried, error) {
	p := transferdb.LastAttemptsParams{CountMax: triedMax}
	for _, t := range transfers {
		p.Tenants, p.Transfers = append(p.Tenants, t.TenantID), append(p.Transfers, t.ID)
	}
	rows, err := transferdb.New().LastAttempts(ctx, s.pool, p)
	if err != nil {
		return nil, fmt.Errorf("read last attempts: %w", err)
	}
	tried := make(map[Ref]Tried, len(rows))
	for _, r := range rows {
		tried[Ref{r.TenantID, r.TransferID}] = Tried{
			Times: int(r.Times), Last: Attempt{Step: r.Step, Kind: r.Kind, Detail: r.Detail, At: r.At},
		}
	}
	return tried, nil
}

// CleanUp removes attempts that are too old to explain anything.
func (s *Service) CleanUp(ctx context.Context) error {
	for range cleanUpBatchesMax {
		var removed int64
		err := pgtx.Run(ctx, s.pool, "delete old attempts", func(ctx context.Context, tx pgx.Tx) error {
			var err error
			removed, err = transferdb.New().SystemDeleteOldAttempts(ctx, tx,
				transferdb.SystemDeleteOldAttemptsParams{
					Kept: pgtx.Interval(attemptsKept), BatchSize: cleanUpBatchRows,
				})
			return err
		})
		if err != nil || removed < cleanUpBatchRows {
			return err
		}
	}
	return nil
}
