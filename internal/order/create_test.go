package order_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/order/ordertest"
	"example.com/holdfast/internal/problem"
)

// nothing counts what a refused order must not leave behind.
const nothing = `SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM order_lines)
                      + (SELECT count(*) FROM river_job) + (SELECT count(*) FROM reservations)`

//nolint:lll // a table reads by lines
func TestBadInputIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	w := world{Bundle: ordertest.New(t)}
	dear := w.NewSKU(t, "dear", money.MaxValue, 1)
	pounds := w.skuIn(t, "GBP")
	frozen := w.Account(t, 100)
	_, err := w.Ledger.SetStatus(t.Context(), w.Keyed("freeze", "freeze"), frozen, ledger.StatusFrozen,
		func(ledger.Account) idempotency.Response { return idempotency.Response{Status: http.StatusOK} })
	require.NoError(t, err)
	closed := w.NewSlot(t, ordertest.Location, 1)
	w.CloseSlot(t, closed)
	many := make([]order.Line, order.LinesMax+1)
	for i := range many {
		many[i] = order.Line{SKU: w.SKU, Quantity: 1}
	}
	line := func(l ...order.Line) func(*order.New) { return func(n *order.New) { n.Lines = l } }
	for name, c := range map[string]struct {
		change func(*order.New)
		code   problem.Code
	}{
		"unknown SKU":         {line(order.Line{SKU: uuid.New(), Quantity: 1}), problem.SKUNotFound},
		"no SKU":              {line(order.Line{Quantity: 1}), problem.ValidationFailed},
		"zero quantity":       {line(order.Line{SKU: w.SKU}), problem.ValidationFailed},
		"negative quantity":   {line(order.Line{SKU: w.SKU, Quantity: -1}), problem.ValidationFailed},
		"huge quantity":       {line(order.Line{SKU: w.SKU, Quantity: math.MaxInt64}), problem.ValidationFailed},
		"huge sum":            {line(order.Line{SKU: w.SKU, Quantity: inventory.QuantityMax}, order.Line{SKU: w.SKU, Quantity: 1}), problem.ValidationFailed},
		"no lines":            {line(), problem.ValidationFailed},
		"too many lines":      {line(many...), problem.ValidationFailed},
		"total too large":     {line(order.Line{SKU: dear, Quantity: 2}), problem.TotalOverflow},
		"total overflows":     {line(order.Line{SKU: dear, Quantity: inventory.QuantityMax}), problem.TotalOverflow},
		"sum too large":       {line(order.Line{SKU: dear, Quantity: 1}, order.Line{SKU: w.SKU, Quantity: 1}), problem.TotalOverflow},
		"two currencies":      {line(order.Line{SKU: pounds, Quantity: 1}, order.Line{SKU: w.SKU, Quantity: 1}), problem.CurrencyMismatch},
		"accounts' currency":  {line(order.Line{SKU: pounds, Quantity: 1}), problem.CurrencyMismatch},
		"unknown slot":        {func(n *order.New) { n.Slot = uuid.New() }, problem.SlotNotFound},
		"closed slot":         {func(n *order.New) { n.Slot = closed }, problem.SlotClosed},
		"slot elsewhere":      {func(n *order.New) { n.Slot, n.Location = w.Slot, "elsewhere" }, problem.SlotElsewhere},
		"unknown customer":    {func(n *order.New) { n.CustomerAccount = uuid.New() }, problem.AccountNotFound},
		"unknown merchant":    {func(n *order.New) { n.MerchantAccount = uuid.New() }, problem.AccountNotFound},
		"merchant outside":    {func(n *order.New) { n.MerchantAccount = w.External }, problem.AccountExternal},
		"no customer":         {func(n *order.New) { n.CustomerAccount = uuid.Nil }, problem.ValidationFailed},
		"no merchant":         {func(n *order.New) { n.MerchantAccount = uuid.Nil }, problem.ValidationFailed},
		"pays itself":         {func(n *order.New) { n.MerchantAccount = n.CustomerAccount }, problem.ValidationFailed},
		"frozen customer":     {func(n *order.New) { n.CustomerAccount = frozen }, problem.AccountFrozen},
		"no location":         {func(n *order.New) { n.Location = "" }, problem.ValidationFailed},
		"hostile location":    {func(n *order.New) { n.Location = "a\x00b" }, problem.ValidationFailed},
		"long location":       {func(n *order.New) { n.Location = strings.Repeat("x", 65) }, problem.ValidationFailed},
		"hostile reference":   {func(n *order.New) { n.ClientReference = "\xff" }, problem.ValidationFailed},
		"control character":   {func(n *order.New) { n.ClientReference = "a\nb" }, problem.ValidationFailed},
		"long reference":      {func(n *order.New) { n.ClientReference = strings.Repeat("x", 256) }, problem.ValidationFailed},
		"metadata, no object": {func(n *order.New) { n.Metadata = json.RawMessage(`[]`) }, problem.ValidationFailed},
		"metadata, no JSON":   {func(n *order.New) { n.Metadata = json.RawMessage(`{`) }, problem.ValidationFailed},
		"long metadata":       {func(n *order.New) { n.Metadata = json.RawMessage(`{"a":"` + strings.Repeat("x", 4096) + `"}`) }, problem.ValidationFailed},
	} {
		item := w.Item(1)
		c.change(&item)
		require.Equal(t, c.code, w.refused(t, name, item), name)
		results, err := w.Orders.Preview(t.Context(), w.Tenant, []order.New{item, w.Item(1)})
		require.NoError(t, err, name)
		require.Equal(t, c.code, results[0].Refused.Code, name)
		require.Nil(t, results[1].Refused, name)
	}
	require.Zero(t, w.Count(t, nothing))
	w.requireStock(t, 10, 0)
	w.CheckInvariants(t)
}

// skuIn makes a SKU in another currency.
func (w world) skuIn(t *testing.T, currency string) uuid.UUID {
	t.Helper()
	var id uuid.UUID
	_, err := w.Inventory.CreateSKU(t.Context(), w.Keyed(currency, currency), inventory.NewSKU{
		Code: currency, Name: currency, Price: 1, Currency: currency,
	}, func(k inventory.SKU) idempotency.Response {
		id = k.ID
		return idempotency.Response{Status: http.StatusCreated}
	})
	require.NoError(t, err)
	return id
}

func TestARefusalIsStoredAndAReferenceNamesOneOrder(t *testing.T) {
	t.Parallel()
	w := world{Bundle: ordertest.New(t)}
	item := w.Item(1)
	item.ClientReference = "mine"
	id := w.Place(t, "k1", item)
	require.Equal(t, problem.ReferenceUsed, w.refused(t, "k2", item))
	item.ClientReference = "other"
	item.Slot = uuid.New()
	require.Equal(t, problem.SlotNotFound, w.refused(t, "k3", item))
	response, err := w.Orders.Create(t.Context(), w.Request("k3", item))
	require.NoError(t, err)
	require.True(t, response.Replayed)

	page, err := w.Orders.List(t.Context(), w.Tenant, order.Filter{ClientReference: "mine", SKU: w.SKU})
	require.NoError(t, err)
	require.Equal(t, id, page.Orders[0].ID)
	page, err = w.Orders.List(t.Context(), w.Tenant, order.Filter{
		ClientReference: "mine",
		State:           order.Confirmed,
	})
	require.NoError(t, err)
	require.Empty(t, page.Orders)
	page, err = w.Orders.List(t.Context(), w.Tenant, order.Filter{ClientReference: "nobody's"})
	require.NoError(t, err)
	require.Empty(t, page.Orders)
}

func TestSeveralOrdersUnderOneKeyHaveResultsOfTheirOwn(t *testing.T) {
	t.Parallel()
	w := world{Bundle: ordertest.New(t)}
	bad := w.Item(1)
	bad.ClientReference, bad.Location = "a\x00b", "c\x00d"
	response, err := w.Orders.Create(t.Context(), w.Request("k1", w.Item(1), bad, w.Item(2)))
	require.NoError(t, err)
	var answers []ordertest.Answer
	require.NoError(t, json.Unmarshal(response.Body, &answers))
	require.Equal(t, []problem.Code{"", problem.ValidationFailed, ""},
		[]problem.Code{answers[0].Code, answers[1].Code, answers[2].Code})
	require.EqualValues(t, 2, w.Count(t, "SELECT count(*) FROM orders"))
	_, err = w.Orders.Create(t.Context(), w.Request("k2"))
	require.True(t, problem.Is(err, problem.ValidationFailed))
	_, err = w.Orders.Create(t.Context(), w.Request("k3", make([]order.New, order.BulkMaxItems+1)...))
	require.True(t, problem.Is(err, problem.ValidationFailed))
}

func TestPreviewSaysWhatWouldHappenAndDoesNothing(t *testing.T) {
	t.Parallel()
	w := world{Bundle: ordertest.New(t)}
	slot := w.NewSlot(t, ordertest.Location, 1)
	enough, rest, tooMuch, full, poor := w.Item(6), w.Item(4), w.Item(1), w.Item(0), w.Item(0)
	enough.Slot = slot
	other := w.NewSKU(t, "other", 10, 100)
	full.Lines, full.Slot = []order.Line{{SKU: other, Quantity: 1}}, slot
	poor.Lines = []order.Line{{SKU: other, Quantity: 1}}
	poor.CustomerAccount = w.Account(t, 5)
	results, err := w.Orders.Preview(t.Context(), w.Tenant, []order.New{enough, rest, tooMuch, full, poor})
	require.NoError(t, err)
	var codes []problem.Code
	for _, r := range results {
		if r.Refused == nil {
			codes = append(codes, "")
			continue
		}
		codes = append(codes, r.Refused.Code)
	}
	require.Equal(t, []problem.Code{
		"", "", problem.InsufficientStock, problem.SlotFull,
		problem.InsufficientFunds,
	}, codes)
	require.Equal(t, 6*ordertest.Price, results[0].Order.Total.Value)
	require.Zero(t, w.Count(t, nothing))
	w.requireStock(t, 10, 0)
	_, held := w.Balance(t, w.From)
	require.Zero(t, held)
}

func TestListsFilterAndPage(t *testing.T) {
	t.Parallel()
	w := world{Bundle: ordertest.New(t)}
	other := w.NewSKU(t, "other", 10, 100)
	var ids []uuid.UUID
	for i := range 5 {
		item := w.Item(1)
		if i == 3 {
			item.Lines = []order.Line{{SKU: other, Quantity: 1}, {SKU: w.SKU, Quantity: 1}}
		}
		ids = append(ids, w.Place(t, fmt.Sprintf("k%d", i), item))
	}
	list := func(f order.Filter) []uuid.UUID {
		page, err := w.Orders.List(t.Context(), w.Tenant, f)
		require.NoError(t, err)
		var found []uuid.UUID
		for _, o := range page.Orders {
			require.NotEmpty(t, o.Lines)
			found = append(found, o.ID)
		}
		return found
	}
	require.Equal(t, []uuid.UUID{ids[4], ids[3], ids[2], ids[1], ids[0]}, list(order.Filter{Limit: 10}))
	require.Equal(t, []uuid.UUID{ids[3]}, list(order.Filter{Limit: 10, SKU: other}))
	require.Equal(t, []uuid.UUID{ids[1], ids[0]}, list(order.Filter{Limit: 2, Before: ids[2]}))
	require.Empty(t, list(order.Filter{State: order.Confirmed}))
	require.Len(t, list(order.Filter{Limit: 10, State: order.Pending, Account: w.To}), 5)
	require.Empty(t, list(order.Filter{Account: uuid.New()}))
	created := w.Order(t, ids[2]).CreatedAt
	require.Len(t, list(order.Filter{Limit: 10, CreatedFrom: created}), 3)
	require.Len(t, list(order.Filter{Limit: 10, CreatedTo: created}), 2)
	page, err := w.Orders.List(t.Context(), w.Tenant, order.Filter{Limit: 2})
	require.NoError(t, err)
	require.Equal(t, ids[3], page.Next)

	foreign := w.NewTenant(t, "foreign")
	_, err = w.Orders.Get(t.Context(), order.Ref{TenantID: foreign, ID: ids[0]})
	require.True(t, problem.Is(err, problem.NotFound))
	_, err = w.Orders.Events(t.Context(), order.Ref{TenantID: foreign, ID: ids[0]}, 0)
	require.True(t, problem.Is(err, problem.NotFound))
	o, err := w.Orders.Wait(t.Context(), w.Ref(ids[0]), 20*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, order.Pending, o.State, "nobody works")
}

func TestAForeignTenantsThingsAreNotFound(t *testing.T) {
	t.Parallel()
	w := world{Bundle: ordertest.New(t)}
	foreign := w.NewTenant(t, "foreign")
	request := w.Request("k1", w.Item(1))
	request.Key.TenantID = foreign
	response, err := w.Orders.Create(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, problem.SKUNotFound, ordertest.Read(t, response).Code)
}
