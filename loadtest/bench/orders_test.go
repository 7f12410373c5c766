package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/invariant"
	"example.com/holdfast/loadtest/rig"
)

// ordersTo is traffic of orders that nobody answers.
func ordersTo(accounts int) *traffic {
	s := rig.Tenant{Key: "hf_test_key", Merchant: uuid.New()}
	for range accounts {
		s.Accounts = append(s.Accounts, uuid.New())
	}
	for range rig.SKUCount {
		s.SKUs = append(s.SKUs, uuid.New())
	}
	t := newTraffic("127.0.0.1:1", s, 7)
	t.places = true
	return t
}

// placed is the body of an order.
type placed struct {
	Customer string `json:"customer_account"`
	Merchant string `json:"merchant_account"`
	Location string `json:"location"`
	Lines    []struct {
		SKU      string `json:"sku"`
		Quantity int64  `json:"quantity"`
	} `json:"lines"`
}

func parseOrder(t *testing.T, text []byte) (*http.Request, placed) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
	require.NoError(t, err)
	var p placed
	body := json.NewDecoder(r.Body)
	body.DisallowUnknownFields()
	require.NoError(t, body.Decode(&p))
	require.NoError(t, r.Body.Close())
	return r, p
}

func TestAnOrderHasOneToThreeLinesOfDifferentSKUs(t *testing.T) {
	t.Parallel()
	traffic := ordersTo(3)
	sender := traffic.newSender(0)
	sizes, keys := map[int]int{}, map[string]bool{}
	for range 200 {
		r, p := parseOrder(t, sender.fresh())
		require.Equal(t, "/v1/orders", r.URL.Path)
		require.Equal(t, "Bearer hf_test_key", r.Header.Get("Authorization"))
		keys[r.Header.Get("Idempotency-Key")] = true
		require.Contains(t, traffic.accounts, p.Customer)
		require.Equal(t, traffic.merchant, p.Merchant)
		require.NotContains(t, traffic.accounts, p.Merchant, "nobody buys from himself")
		require.Equal(t, rig.Location, p.Location)
		sizes[len(p.Lines)]++
		skus := map[string]bool{}
		for _, l := range p.Lines {
			require.Contains(t, traffic.skus, l.SKU)
			require.Positive(t, l.Quantity)
			require.LessOrEqual(t, l.Quantity, int64(quantityMax))
			skus[l.SKU] = true
		}
		require.Len(t, skus, len(p.Lines))
	}
	require.Len(t, keys, 200, "every order has a key of its own")
	require.Len(t, sizes, linesMax)
	require.Positive(t, sizes[1]*sizes[2]*sizes[linesMax])
}

func TestNoRunCanSellOutOrEmptyAnAccount(t *testing.T) {
	t.Parallel()
	const ordersMax = 1_000_000 // of one account, or with one SKU
	require.Less(t, ordersMax*quantityMax, rig.OpeningStock)
	most := linesMax * quantityMax * (rig.PriceMin + rig.SKUCount)
	require.Less(t, 100_000*most, rig.OpeningBalance)
}

func TestOrdersAreJudgedByTheirOwnInvariantsToo(t *testing.T) {
	t.Parallel()
	names := func(checks []invariant.Invariant) []string {
		var all []string
		for _, c := range checks {
			all = append(all, c.Name)
		}
		return all
	}
	require.Subset(t, names(invariantsOf(kindHoldfast, orderFlow())), []string{
		"order_completion_integrity", "order_reservations_agree", "stock_never_oversold",
		"transfer_never_forgotten", "money_conserved",
	})
	require.NotContains(t, names(invariantsOf(kindHoldfast, transferFlow())), "order_completion_integrity")
}

func TestACanceledOrderDoesNotCountAsKeptUp(t *testing.T) {
	t.Parallel()
	p := Phase{Seconds: 10, Accepted: 1000, Drained: true, Of: orders}
	p.settle(settlements{accepted: 1000, settled: 600, canceled: 400}, plan{rate: 100}, true)
	require.False(t, p.KeptUp)
	require.InDelta(t, 0.4, p.LagShare, 1e-9)
	require.InDelta(t, 60, p.SettledPerSecond, 0)
	require.EqualValues(t, 400, p.Canceled)
}

func TestThePaymentsOfOrdersAreNotOrders(t *testing.T) {
	t.Parallel()
	left := rig.Backlog{Transfers: 7, Orders: 2}
	require.EqualValues(t, 2, orderFlow().of(left))
	require.EqualValues(t, 7, transferFlow().of(left))
}

func TestTheReportHasOrdersBesideTransfers(t *testing.T) {
	t.Parallel()
	r := good()
	for i := range r.Phases {
		if r.Phases[i].Of == orders {
			r.Phases[i].SettledPerSecond, r.Phases[i].Canceled = 1100, 3
		}
	}
	r.judge()
	require.InDelta(t, 5, r.TransfersPerOrder, 0)
	require.InDelta(t, 1100, r.OrdersConfirmedPerSecond, 0)
	var b strings.Builder
	require.NoError(t, r.Markdown(&b))
	for _, text := range []string{
		"| holdfast | order, placed to ended, 64 callers |  | 7900 | 1100 | 3 | 0 |",
		"7900/s placed, 1100/s confirmed; for each confirmed order, the same callers " +
			"get 5.0 transfers settled.",
		"| orders canceled though there is stock | none | 3 | **not met** |",
	} {
		require.Contains(t, b.String(), text)
	}
	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(text), `"of":"orders"`)
	require.Contains(t, string(text), `"orders_confirmed_per_second":1100`)
}

func TestALineSaysPlacedAndConfirmedOfOrders(t *testing.T) {
	t.Parallel()
	p := Phase{
		System: kindHoldfast, Name: phaseOrdersHalf, Of: orders, AcceptedPerSecond: 9,
		SettledPerSecond: 8, Canceled: 1,
	}
	require.Equal(t, "holdfast, order, half of that rate: placed 9/s, confirmed 8/s, "+
		"placed to confirmed p50 0 ms p99 0 ms, canceled 1", p.line())
}
