package inventory_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/problem"
)

func renderSlot(d inventory.Slot) idempotency.Response {
	return idempotency.Response{Status: 200, Body: fmt.Appendf(nil, "%s %d/%d", d.Status, d.Booked,
		d.Capacity)}
}

func renderSKU(k inventory.SKU) idempotency.Response {
	return idempotency.Response{Status: 201, Body: []byte(k.ID.String())}
}

func TestStockChangesByEntriesAndNeverBelowWhatIsReserved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.sku(t, "one", 5)
	require.NoError(t, b.reserve(t, b.claim(uuid.Nil, 3, one)))
	require.Equal(t, string(problem.InsufficientStock), b.change(t, "k1", one, inventory.Adjust, -3))
	require.Equal(t, string(problem.InsufficientStock), b.change(t, "k1", one, inventory.Adjust, -3),
		"stored")
	b.requireStock(t, one, 5, 3, 1)
	require.Contains(t, b.change(t, "k2", one, inventory.Adjust, -2), "OnHand:3 Reserved:3 Version:2")
	require.Contains(t, b.change(t, "k2", one, inventory.Adjust, -2), "OnHand:3", "once per key")
	require.Contains(t, b.change(t, "k3", one, inventory.Restock, 7), "OnHand:10 Reserved:3 Version:3")
	empty := b.sku(t, "empty", 0)
	require.Equal(t, string(problem.InsufficientStock), b.change(t, "k4", empty, inventory.Adjust, -1))
	stock, err := b.inventory.Stock(t.Context(), inventory.Ref{TenantID: b.tenant, ID: empty})
	require.NoError(t, err)
	require.Empty(t, stock, "a refused change leaves nothing")
	b.requireInvariants(t)
}

//nolint:lll // a table reads by lines
func TestBadChangesAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.sku(t, "one", 5)
	for name, c := range map[string]inventory.Change{
		"zero":             {SKU: one, Location: location, Kind: inventory.Adjust, Reason: "r"},
		"huge":             {SKU: one, Location: location, Kind: inventory.Adjust, Quantity: inventory.QuantityMax + 1, Reason: "r"},
		"negative restock": {SKU: one, Location: location, Kind: inventory.Restock, Quantity: -1, Reason: "r"},
		"by hand":          {SKU: one, Location: location, Kind: inventory.Consume, Quantity: -1, Reason: "r"},
		"no kind":          {SKU: one, Location: location, Quantity: 1, Reason: "r"},
		"no reason":        {SKU: one, Location: location, Kind: inventory.Adjust, Quantity: 1},
		"no location":      {SKU: one, Kind: inventory.Adjust, Quantity: 1, Reason: "r"},
		"hostile location": {SKU: one, Location: "\xff", Kind: inventory.Adjust, Quantity: 1, Reason: "r"},
	} {
		_, err := b.inventory.ChangeStock(t.Context(), b.keyed(name), c, nil)
		require.True(t, problem.Is(err, problem.ValidationFailed), "%s: %v", name, err)
	}
	_, err := b.inventory.ChangeStock(t.Context(), b.keyed("unknown"), inventory.Change{
		SKU: uuid.New(), Location: location, Kind: inventory.Restock, Quantity: 1, Reason: "r",
	}, nil)
	require.True(t, problem.Is(err, problem.NotFound))
	b.requireStock(t, one, 5, 0, 1)
}

func TestACodeNamesOneSKU(t *testing.T) {
	t.Parallel()
	b := setup(t)
	answers := make([]string, 8)
	var group errgroup.Group
	for i := range answers {
		group.Go(func() error {
			response, err := b.inventory.CreateSKU(t.Context(), b.keyed(strconv.Itoa(i)), inventory.NewSKU{
				Code: "same", Name: "n", Price: 1, Currency: "EUR",
			}, renderSKU)
			answers[i] = string(response.Body)
			return err
		})
	}
	require.NoError(t, group.Wait())
	made := 0
	for _, a := range answers {
		if a != string(problem.SKUCodeUsed) {
			made++
		}
	}
	require.Equal(t, 1, made)
	for name, n := range map[string]inventory.NewSKU{
		"no code":      {Name: "n", Price: 1, Currency: "EUR"},
		"long code":    {Code: strings.Repeat("x", 65), Name: "n", Price: 1, Currency: "EUR"},
		"no name":      {Code: "c", Price: 1, Currency: "EUR"},
		"hostile name": {Code: "c", Name: "a\x00", Price: 1, Currency: "EUR"},
		"free":         {Code: "c", Name: "n", Currency: "EUR"},
		"no currency":  {Code: "c", Name: "n", Price: 1},
	} {
		_, err := b.inventory.CreateSKU(t.Context(), b.keyed(name), n, renderSKU)
		require.True(t, problem.Is(err, problem.ValidationFailed), name)
	}
}

func TestSKUsAreListedByID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := []uuid.UUID{b.sku(t, "a", 0), b.sku(t, "b", 0), b.sku(t, "c", 0)}
	skus, err := b.inventory.SKUs(t.Context(), b.tenant, ids[0], 10)
	require.NoError(t, err)
	require.Equal(t, []string{"b", "c"}, []string{skus[0].Code, skus[1].Code})
	skus, err = b.inventory.SKUs(t.Context(), b.tenant, uuid.Nil, 0)
	require.NoError(t, err)
	require.Len(t, skus, 1)
	k, err := b.inventory.SKU(t.Context(), inventory.Ref{TenantID: b.tenant, ID: ids[2]})
	require.NoError(t, err)
	require.Equal(t, "c", k.Code)
	_, err = b.inventory.SKU(t.Context(), inventory.Ref{TenantID: uuid.New(), ID: ids[2]})
	require.True(t, problem.Is(err, problem.NotFound))
	_, err = b.inventory.Stock(t.Context(), inventory.Ref{TenantID: uuid.New(), ID: ids[2]})
	require.True(t, problem.Is(err, problem.NotFound))
}

func TestSlotsAreOpenedListedAndClosed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	elsewhere := soon(2)
	elsewhere.Location = "elsewhere"
	here, there := b.slot(t, "here", soon(1)), b.slot(t, "there", elsewhere)
	slots, err := b.inventory.Slots(t.Context(), b.tenant, "", uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, slots, 2)
	slots, err = b.inventory.Slots(t.Context(), b.tenant, "elsewhere", uuid.Nil, 10)
	require.NoError(t, err)
	require.Equal(t, there, slots[0].ID)
	require.NoError(t, b.reserve(t, b.claim(here, 1, b.sku(t, "one", 5))))
	for range 2 {
		response, err := b.inventory.CloseSlot(t.Context(), b.keyed("close"), here, renderSlot)
		require.NoError(t, err)
		require.Equal(t, "closed 1/1", string(response.Body), "who has a place keeps it")
	}
	_, err = b.inventory.CloseSlot(t.Context(), b.keyed("unknown"), uuid.New(), renderSlot)
	require.True(t, problem.Is(err, problem.NotFound))
	for name, change := range map[string]func(*inventory.NewSlot){
		"no location":  func(n *inventory.NewSlot) { n.Location = "" },
		"no time":      func(n *inventory.NewSlot) { n.StartsAt, n.EndsAt = time.Time{}, time.Time{} },
		"runs back":    func(n *inventory.NewSlot) { n.EndsAt = n.StartsAt },
		"no capacity":  func(n *inventory.NewSlot) { n.Capacity = 0 },
		"too much":     func(n *inventory.NewSlot) { n.Capacity = inventory.CapacityMax + 1 },
		"less than no": func(n *inventory.NewSlot) { n.Capacity = -1 },
	} {
		n := soon(1)
		change(&n)
		_, err := b.inventory.CreateSlot(t.Context(), b.keyed(name), n, renderSlot)
		require.True(t, problem.Is(err, problem.ValidationFailed), name)
	}
	b.requireInvariants(t)
}
