package simdep

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	payoutsPath      = "/v1/payouts"
	withdrawalSuffix = "/withdrawal"

	kindPayout = "payout"
)

// submission is one request to pay, as it came in. It is the same when it arrives late.
type submission struct {
	key      string // the payout reference
	nth      int    // number of the call under it
	payout   payoutRequest
	bodyHash uint64
	knobs    Knobs
	course   course
	twice    bool
}

// payoutRequest is the part of a request that the rail cares for.
type payoutRequest struct {
	TransferID  string `json:"transfer_id"`
	TenantID    string `json:"tenant_id"`
	AmountValue int64  `json:"amount_value"`
}

// payouts routes the calls of the rail.
func (s *Server) payouts(work <-chan struct{}, r *http.Request, body []byte) reply {
	reference, named := strings.CutPrefix(r.URL.Path, payoutsPath+"/")
	target, withdrawal := strings.CutSuffix(reference, withdrawalSuffix)
	switch {
	case r.Method == http.MethodPost && !named:
		return s.submit(work, r, body)
	case r.Method == http.MethodPost && withdrawal && target != "":
		return s.withdraw(work, r, target)
	case r.Method == http.MethodGet && reference != "":
		return s.question(work, r, reference, func() reply { return s.journal.receiptOf(reference) })
	}
	return refuseRoute(r)
}

// submit takes a submission in. With arrive_late_ms it is only on its way once its caller has left, be
// it in the queue, in the latency or in a hang, and arrives after that time; without, a caller who left
// the queue was not heard, and a hang has no effect.
func (s *Server) submit(work <-chan struct{}, r *http.Request, body []byte) reply {
	s.journal.enter()
	defer s.journal.leave()
	key, ok := effectKey(r)
	if !ok {
		return refuseKey()
	}
	in := submission{key: key, bodyHash: s.journal.hash(body), knobs: s.Knobs()}
	if err := json.Unmarshal(body, &in.payout); err != nil {
		return refuse(http.StatusBadRequest, err.Error())
	}
	if in.payout.AmountValue <= 0 || in.payout.TransferID == "" {
		return refuse(http.StatusBadRequest, "transfer_id must be there and amount_value be positive")
	}
	in.nth = s.journal.called(key)
	in.course = in.knobs.course(key, in.nth)
	w := way{work: work, draw: in.knobs.draw(key, in.nth)}
	in.twice = w.draw.twice

	ctx, late := r.Context(), millis(in.knobs.ArriveLate)
	if late == 0 {
		return s.serve(ctx, w, func() reply { return s.arrive(in) })
	}
	w.work = ctx.Done()
	result := s.serve(ctx, w, func() reply {
		if ctx.Err() != nil {
			return reply{fate: hung}
		}
		return s.arrive(in)
	})
	if result.fate == hung {
		s.chores.start(func(ctx context.Context) { // without a place it never arrives
			if wait(ctx.Done(), late) {
				s.arrive(in)
			}
		})
	}
	return result
}

// arrive is the moment at which the rail learns of a submission.
func (s *Server) arrive(in submission) reply {
	if in.twice {
		again := in
		again.nth = s.journal.called(in.key)
		s.take(again)
	}
	return s.take(in)
}

// take pays the submission, refuses it, or sees to it that it is settled later.
func (s *Server) take(in submission) reply {
	result, pending := s.journal.submit(in)
	if pending == nil {
		return result
	}
	started := s.chores.start(func(ctx context.Context) {
		if !wait(ctx.Done(), millis(in.knobs.PayoutSettle)) {
			return
		}
		status, final := s.journal.settle(pending)
		if final && in.course.calledBack {
			s.callBack(ctx, pending, status)
		}
	})
	if !started && s.chores.ctx.Err() == nil { // too many are pending: this one is final at once, uncalled
		s.journal.settle(pending)
	}
	return result
}

// withdraw sets the fence. Withdrawals have numbers and fates of their own.
func (s *Server) withdraw(work <-chan struct{}, r *http.Request, reference string) reply {
	s.journal.enter()
	defer s.journal.leave()
	if len(reference) > maxKeyBytes {
		return refuseKey()
	}
	draw := s.Knobs().draw(reference+withdrawalSuffix, s.journal.withdrawing(reference))
	return s.serve(r.Context(), way{work: work, draw: draw}, func() reply {
		return s.journal.withdraw(reference)
	})
}

func millis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
