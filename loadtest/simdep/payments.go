package simdep

import (
	"hash/maphash"
	"net/http"
)

// PayoutStatus is how far the rail is with a reference. The set is closed.
type PayoutStatus string

// The statuses; a reference that the rail does not know has none. Paid and withdrawn stay for ever.
const (
	Paid      PayoutStatus = "paid"
	Pending   PayoutStatus = "pending"
	Refused   PayoutStatus = "refused"
	Withdrawn PayoutStatus = "withdrawn"
)

// receipt is what the rail says about a reference.
type receipt struct {
	Status        PayoutStatus `json:"status"`
	Reason        string       `json:"reason"`
	RailReference string       `json:"rail_reference"`
}

// payee is a transfer with the payments made for it under any reference. It is remembered as long as
// one of its references is.
type payee struct {
	references int
	payments   int
}

// pendingPayout is a submission that was taken and is not final yet.
type pendingPayout struct {
	submission

	record *record
	payee  *payee
}

func (j *journal) hash(body []byte) uint64 { return maphash.Bytes(j.hashSeed, body) }

// submit pays or refuses the submission, or returns it as pending. Under a reference that is known the
// receipt stands, unless keys are ignored; a withdrawal stands always.
func (j *journal) submit(in submission) (reply, *pendingPayout) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.remember(in.key)
	switch {
	case r.Kind != "" && r.Kind != kindPayout:
		j.counts.Conflicts++
		return conflict(), nil
	case r.Status == Withdrawn:
		j.counts.Fenced++
		return r.reply, nil
	case r.Status != "" && !in.knobs.IgnoreKeys:
		if r.bodyHash != in.bodyHash {
			j.counts.Conflicts++
			return conflict(), nil
		}
		j.counts.Duplicates++
		return r.reply, nil
	}
	r.Kind, r.bodyHash = kindPayout, in.bodyHash
	p := &pendingPayout{submission: in, record: r, payee: j.payeeOf(r, in.payout.TransferID)}
	if over := in.knobs.PayoutRefuseOver; over > 0 && in.payout.AmountValue > over {
		return r.become(Refused, "amount_over_limit"), nil
	}
	if in.course.pending {
		r.unstoppable = r.unstoppable || in.course.unstoppable
		return r.become(Pending, "pending_by_knob"), p
	}
	return j.pay(p), nil
}

// settle ends a pending payout, unless it was withdrawn, and returns how.
func (j *journal) settle(p *pendingPayout) (PayoutStatus, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if p.record.Status == Withdrawn {
		return Withdrawn, false
	}
	if p.course.refused {
		p.record.become(Refused, "refused_by_knob")
		return Refused, true
	}
	j.pay(p)
	return Paid, true
}

// withdraw stops the reference for ever if it is not known or can still be stopped, and returns its
// receipt.
func (j *journal) withdraw(key string) reply {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.remember(key)
	if r.Kind != "" && r.Kind != kindPayout {
		j.counts.Conflicts++
		return conflict()
	}
	r.Kind = kindPayout
	if r.Status == "" || r.Status == Pending && !r.unstoppable {
		j.counts.Withdrawn++
		return r.become(Withdrawn, "withdrawn")
	}
	if r.Status != Withdrawn {
		j.counts.WithdrawalsTooLate++
	}
	return r.reply
}

// withdrawing returns the number of a withdrawal of the reference, from 1.
func (j *journal) withdrawing(key string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.remember(key)
	r.withdrawals++
	return r.withdrawals
}

// receiptOf answers what the rail knows of a reference.
func (j *journal) receiptOf(key string) reply {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok := j.records[key]
	if !ok || r.Status == "" {
		return refuse(http.StatusNotFound, "no payout under this reference")
	}
	return r.reply
}

// calledBack counts a callback that was sent.
func (j *journal) calledBack(r *record, taken bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r.Callbacks++
	j.counts.Callbacks++
	if !taken {
		j.counts.CallbacksFailed++
	}
}

// pay moves the money: the one place that does; mu is held.
func (j *journal) pay(p *pendingPayout) reply {
	r := p.record
	if r.Effects == 0 {
		j.counts.PaidReferences++
	} else {
		j.counts.Doubled++
	}
	r.Effects++
	j.counts.Effects++
	j.counts.Payments++
	p.payee.payments++
	switch p.payee.payments {
	case 1:
		j.counts.PaidTransfers++
	case 2:
		j.counts.TransfersPaidTwice++
	}
	return r.become(Paid, "")
}

// payeeOf makes the record one of the transfer's; mu is held.
func (j *journal) payeeOf(r *record, transferID string) *payee {
	p := j.payees[transferID]
	if p == nil {
		p = &payee{}
		j.payees[transferID] = p
	}
	if r.TransferID != transferID {
		p.references++
		j.forgetPayee(r)
		r.TransferID = transferID
	}
	return p
}

// forgetPayee lets go of the transfer of a record; mu is held.
func (j *journal) forgetPayee(r *record) {
	p := j.payees[r.TransferID]
	if p == nil {
		return
	}
	if p.references--; p.references == 0 {
		delete(j.payees, r.TransferID)
	}
}

// become writes the receipt of the moment. What was paid stays paid, whatever a second submission under
// the reference comes to.
func (r *record) become(status PayoutStatus, reason string) reply {
	result := write(http.StatusOK, receipt{status, reason, reference("pay", r.Key)})
	if r.Status != Paid {
		r.Status, r.reply, r.Reply = status, result, result.body
	}
	return result
}
