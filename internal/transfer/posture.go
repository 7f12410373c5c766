package transfer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// Posture says what happens to a tenant's transfers in a currency when the risk service cannot be asked: up
// to an amount they pass unscreened, above it they wait, and expire with their promise. Without a posture
// none passes. Every version is kept, with who set it and why.
type Posture struct {
	TenantID uuid.UUID
	Currency string
	Version  int32
	// OpenUpTo is the largest amount that passes, in minor units; zero closes.
	OpenUpTo      int64
	Actor, Reason string
	SetAt         time.Time
}

// postureRacesMax bounds how often a change tries again that met another one.
const postureRacesMax = 16

// failOpen lets a transfer pass whose risk cannot be asked about, if the tenant's posture says so. Which
// version said so stands in the events as their actor.
func (s *Service) failOpen(ctx context.Context, t Transfer, w work) (bool, error) {
	ctx, cancel := recording(ctx)
	defer cancel()
	p, err := transferdb.New().CurrentPosture(ctx, s.pool, transferdb.CurrentPostureParams{
		TenantID: t.TenantID, Currency: t.Amount.Currency,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read risk posture of tenant %s: %w", t.TenantID, err)
	}
	if t.Amount.Value > p.OpenUpTo {
		return false, nil
	}
	return true, s.move(ctx, move{
		seen: t, events: t.pass(), reason: ReasonRiskUnavailable,
		actor: fmt.Sprintf("posture:%d", p.Version), cause: w.cause,
	})
}

// SetPosture adds the next version of a posture.
func (s *Service) SetPosture(ctx context.Context, p Posture) (Posture, error) {
	if err := p.validate(); err != nil {
		return Posture{}, err
	}
	var set Posture
	var err error
	for range postureRacesMax {
		err = pgtx.Run(ctx, s.pool, "set risk posture", func(ctx context.Context, tx pgx.Tx) error {
			var err error
			set, err = p.insert(ctx, tx)
			return err
		})
		if pgtx.Code(err) != pgtx.CodeUniqueViolation {
			break
		}
	}
	if err != nil {
		return Posture{}, err
	}
	return set, nil
}

// ChangePosture is SetPosture once per key.
func (s *Service) ChangePosture(
	ctx context.Context, key idempotency.Keyed, p Posture, render func(Posture) idempotency.Response,
) (idempotency.Response, error) {
	if err := p.validate(); err != nil {
		return idempotency.Response{}, err
	}
	return idempotency.Run(ctx, s.pool, "change risk posture", key,
		func(ctx context.Context, tx pgx.Tx, _ time.Time) (idempotency.Response, error) {
			set, err := p.insert(ctx, tx)
			if err != nil {
				return idempotency.Response{}, err
			}
			return render(set), nil
		})
}

func (p Posture) insert(ctx context.Context, tx pgx.Tx) (Posture, error) {
	set, err := transferdb.New().InsertPosture(ctx, tx, transferdb.InsertPostureParams{
		TenantID: p.TenantID, Currency: p.Currency, OpenUpTo: p.OpenUpTo, Actor: p.Actor, Reason: p.Reason,
	})
	switch {
	case pgtx.Code(err) == pgtx.CodeForeignKeyViolation:
		return Posture{}, problem.New(problem.NotFound, "Tenant %s does not exist.", p.TenantID)
	case err != nil:
		return Posture{}, fmt.Errorf("set risk posture of tenant %s: %w", p.TenantID, err)
	}
	return postureOf(set), nil
}

func (p Posture) validate() error {
	if _, ok := money.Exponent(p.Currency); !ok {
		return problem.Invalid("/currency", "has to be an active ISO 4217 code")
	}
	if p.OpenUpTo < 0 || p.OpenUpTo > money.MaxValue {
		return problem.Invalid("/open_up_to", "has to be 0 to %d", money.MaxValue)
	}
	if strings.Trim(p.Reason, " ") == "" {
		return problem.Invalid("/reason", "has to say why")
	}
	if why := problem.InvalidText(p.Reason, reasonMaxBytes); why != "" {
		return problem.Invalid("/reason", "%s", why)
	}
	return nil
}

// Postures reads the versions of a tenant's postures, the latest of each currency first.
func (s *Service) Postures(ctx context.Context, tenantID uuid.UUID, limit int) ([]Posture, error) {
	rows, err := transferdb.New().ListPostures(ctx, s.pool, transferdb.ListPosturesParams{
		TenantID: tenantID, PageSize: pageSize(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("list risk postures of tenant %s: %w", tenantID, err)
	}
	postures := make([]Posture, len(rows))
	for i, r := range rows {
		postures[i] = postureOf(r)
	}
	return postures, nil
}

func postureOf(r transferdb.RiskPostures) Posture {
	return Posture{
		TenantID: r.TenantID, Currency: r.Currency, Version: r.Version, OpenUpTo: r.OpenUpTo,
		Actor: r.Actor, Reason: r.Reason, SetAt: r.SetAt,
	}
}
