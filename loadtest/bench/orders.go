package bench

import (
	"context"
	"math/rand/v2"
	"strings"

	"github.com/google/uuid"

	"example.com/holdfast/loadtest/rig"
)

// linesMax and quantityMax bound an order; quantityMax has one digit.
const linesMax, quantityMax = 3, 9

// orderRequest is one caller's buffers, one for each number of lines.
type orderRequest struct {
	traffic *traffic
	forms   []orderForm
	random  *rand.Rand
}

// orderForm is the text of an order of so many lines with the places that change.
type orderForm struct {
	text           []byte
	key, customer  []byte
	skus, quantity [][]byte
}

// newOrderRequest makes the buffers of one caller; the orders that it draws follow from its number.
func (t *traffic) newOrderRequest(caller int) *orderRequest {
	r := &orderRequest{traffic: t, random: t.draws(caller)}
	for lines := range linesMax {
		r.forms = append(r.forms, t.newOrderForm(lines+1))
	}
	return r
}

func (t *traffic) newOrderForm(lines int) orderForm {
	id := uuid.Nil.String()
	begin := `{"customer_account":"`
	between := `","merchant_account":"` + t.merchant + `","location":"` + rig.Location + `","lines":[`
	const lineBegin, lineBetween, lineEnd = `{"sku":"`, `","quantity":`, `},`
	line := lineBegin + id + lineBetween + "1" + lineEnd
	content := begin + id + between + strings.TrimSuffix(strings.Repeat(line, lines), ",") + "]}"
	var f orderForm
	var body []byte
	f.text, f.key, body = t.text("/v1/orders", content)
	f.customer = body[len(begin) : len(begin)+uuidChars]
	rest := body[len(begin)+uuidChars+len(between):]
	for range lines {
		at := len(lineBegin)
		f.skus = append(f.skus, rest[at:at+uuidChars])
		at += uuidChars + len(lineBetween)
		f.quantity = append(f.quantity, rest[at:at+1])
		rest = rest[min(len(rest), len(line)):]
	}
	return f
}

// fresh makes it a request for another order: the next key, a customer, and one to three SKUs.
func (r *orderRequest) fresh() []byte {
	f := r.forms[r.random.IntN(len(r.forms))]
	digits(f.key, r.traffic.next.Add(1))
	copy(f.customer, r.traffic.accounts[r.random.IntN(len(r.traffic.accounts))])
	// SKUs that follow each other are all different ones.
	first := r.random.IntN(len(r.traffic.skus))
	for i := range f.skus {
		copy(f.skus[i], r.traffic.skus[(first+i)%len(r.traffic.skus)])
		digits(f.quantity[i], 1+r.random.Uint64N(quantityMax))
	}
	return f.text
}

// halfMinOrders is how many orders the phase at half of the rate asks for at least.
const halfMinOrders = 10

// orders measures orders on a system of their own: a closed loop, and then half of what it confirmed.
func (r *run) orders(ctx context.Context) error {
	callers := r.o.Callers[0]
	return r.with(ctx, kindHoldfast, func(s *subject) error {
		s.flow = orderFlow()
		if err := s.warm(ctx, callers); err != nil {
			return err
		}
		p, err := s.phase(ctx, closedName(phaseOrders, callers), s.closedLoop(callers))
		if err != nil {
			return err
		}
		rate := p.SettledPerSecond
		if rate == 0 { // the window was too short for one
			rate = p.wholeRate(r.o.Ramp)
		}
		if rate == 0 {
			r.say("no order was placed, so there is no half of that rate")
			return nil
		}
		// A short window may see next to none confirmed: then the phase still asks for a few.
		rate = max(rate/2, halfMinOrders/r.o.Phase.Seconds())
		_, err = s.phase(ctx, phaseOrdersHalf, s.openLoop(rate))
		return err
	})
}
