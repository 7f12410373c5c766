package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/problem"
)

// What the orders are about.
const (
	skuCount = 50
	// orderLocation has openingStock of every SKU: no run can sell it out.
	orderLocation = "main"
	openingStock  = 100_000_000
	// priceMin is that of the first SKU, in minor units; each next one costs a unit more.
	priceMin = 200
	// linesMax and quantityMax bound an order; quantityMax has one digit.
	linesMax, quantityMax = 3, 9
)

// shop is what the orders of the load buy, and who is paid.
type shop struct {
	Merchant uuid.UUID
	SKUs     []uuid.UUID
}

// fillShop makes the SKUs with their stock through the service.
func fillShop(ctx context.Context, stock *inventory.Service, tenant uuid.UUID) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, skuCount)
	for i := range ids {
		n := inventory.NewSKU{
			Code: fmt.Sprintf("bench-%02d", i), Name: "Something to sell", Price: priceMin + int64(i),
			Currency: "EUR",
		}
		_, err := stock.CreateSKU(ctx, seedKey(tenant, "sku "+n.Code), n,
			func(k inventory.SKU) idempotency.Response {
				ids[i] = k.ID
				return created()
			})
		if err != nil {
			return nil, err
		}
		_, err = stock.ChangeStock(ctx, seedKey(tenant, "stock "+n.Code), inventory.Change{
			SKU: ids[i], Location: orderLocation, Kind: inventory.Restock, Quantity: openingStock,
			Reason: "opening stock",
		}, func(inventory.Stock) idempotency.Response { return created() })
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func created() idempotency.Response { return idempotency.Response{Status: http.StatusCreated} }

// seedKey has a space, so no request has it.
func seedKey(tenant uuid.UUID, what string) idempotency.Keyed {
	key := "seed " + what
	return idempotency.Keyed{
		Key: idempotency.Key{
			TenantID: tenant, Key: key, Hash: idempotency.Hash("", "seed", "1", []byte(key)),
		},
		Refuse: func(e *problem.Error) idempotency.Response {
			return idempotency.Response{Status: problem.MeaningOf(e.Code).Status, Body: []byte(e.Detail)}
		},
	}
}

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
	between := `","merchant_account":"` + t.merchant + `","location":"` + orderLocation + `","lines":[`
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
		_, err = s.phase(ctx, phaseOrdersHalf, s.openLoop(rate/2))
		return err
	})
}
