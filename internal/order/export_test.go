package order

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"example.com/holdfast/internal/order/internal/orderdb"
)

// What the tests of this package name.
const (
	FaultAfterPlace    = faultAfterPlace
	FaultBeforeReserve = faultBeforeReserve
	FaultBeforePay     = faultBeforePay
	FaultAfterPay      = faultAfterPay
	FaultBeforeHear    = faultBeforeHear
	FaultBeforeReverse = faultBeforeReverse
	FaultAfterReverse  = faultAfterReverse
	FaultAfterMove     = faultAfterMove

	BrokenMax      = brokenMax
	PassingMax     = passingMax
	CohortMaxItems = cohortMaxItems
	ListScanRows   = listScanRows
	ReservationTTL = reservationTTL
	PromiseWindow  = promiseWindow

	PromisesSQL     = orderdb.SystemPromises
	OpenByTenantSQL = orderdb.SystemOpenByTenant
)

// RunJob works a job as River would, but in the test's own goroutine and with its context.
func (s *Service) RunJob(ctx context.Context, kind string, id int64, attempt int, args []byte) error {
	row := &rivertype.JobRow{ID: id, Attempt: attempt, Kind: kind, EncodedArgs: args}
	switch kind {
	case reserveJob{}.Kind():
		return runJob(ctx, s.reserver(), row)
	case payJob{}.Kind():
		return runJob(ctx, s.payer(), row)
	case reverseJob{}.Kind():
		return runJob(ctx, s.reverser(), row)
	case paymentJob{}.Kind():
		return runJob(ctx, s.listener(), row)
	}
	return fmt.Errorf("no worker for job kind %s", kind)
}

func runJob[Job river.JobArgs](ctx context.Context, w river.Worker[Job], row *rivertype.JobRow) error {
	job := &river.Job[Job]{JobRow: row}
	if err := json.Unmarshal(row.EncodedArgs, &job.Args); err != nil {
		return err
	}
	return w.Work(ctx, job)
}

// SetRandom replaces the source of jitter.
func (s *Service) SetRandom(random func() float64) { s.random = random }
