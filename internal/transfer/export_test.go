package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// What the tests of this package name.
const (
	FaultAfterAccept  = faultAfterAccept
	FaultBeforeScreen = faultBeforeScreen
	FaultAfterScreen  = faultAfterScreen
	FaultAfterMove    = faultAfterMove
	FaultBeforeSettle = faultBeforeSettle
	FaultBeforePayout = faultBeforePayout
	FaultAfterPayout  = faultAfterPayout
	FaultBeforeNotify = faultBeforeNotify
	FaultAfterNotify  = faultAfterNotify
	FaultAfterNote    = faultAfterNote

	AttemptsMax    = attemptsMax
	BrokenMax      = brokenMax
	PassingMax     = passingMax
	PayoutTriesMax = payoutTriesMax
	CohortMaxItems = cohortMaxItems
	SweepBatchRows = sweepBatchRows
	ListScanRows   = listScanRows

	PromisesSQL     = transferdb.SystemPromises
	OpenByTenantSQL = transferdb.SystemOpenByTenant
)

// RunJob works a job as River would, but in the test's own goroutine and with its context.
func (s *Service) RunJob(ctx context.Context, kind string, id int64, attempt int, args []byte) error {
	row := &rivertype.JobRow{ID: id, Attempt: attempt, Kind: kind, EncodedArgs: args}
	switch kind {
	case screenJob{}.Kind():
		return runJob(ctx, s.screener(), row)
	case settleJob{}.Kind():
		return runJob(ctx, s.settler(), row)
	case payoutJob{}.Kind():
		return runJob(ctx, s.payer(), row)
	case notifyJob{}.Kind():
		return runJob(ctx, s.notifier(), row)
	}
	return fmt.Errorf("no worker for job kind %s", kind)
}

func runJob[Job river.JobArgs](ctx context.Context, w *cohortWorker[Job], row *rivertype.JobRow) error {
	job := &river.Job[Job]{JobRow: row}
	if err := json.Unmarshal(row.EncodedArgs, &job.Args); err != nil {
		return err
	}
	return w.Work(ctx, job)
}

// SetRandom replaces the source of jitter.
func (s *Service) SetRandom(random func() float64) { s.random = random }

// ClaimLate writes, in one batch, the claim of who saw a payout as it was and the deferral of who sees it as
// it is, and says which of them reached it.
func (s *Service) ClaimLate(ctx context.Context, was, is Transfer) ([]bool, error) {
	claim := waiting(was, 0)
	claim.claim = true
	claim.after.Sent++
	return s.flushNotes(ctx, []note{claim, waiting(is, time.Minute)})
}

// NoteTwice writes a call without an answer down twice, as a commit does whose reply is lost.
func (s *Service) NoteTwice(ctx context.Context, t Transfer) ([]bool, error) {
	n := again(t, stepScreen, time.Minute, context.DeadlineExceeded)
	n.attempt.id = t.ID
	if reached, err := s.flushNotes(ctx, []note{n}); err != nil {
		return reached, err
	}
	return s.flushNotes(ctx, []note{n})
}
