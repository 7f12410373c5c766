package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/problem"
)

func TestBadBodiesOfTheInventoryAreRefusedAsTheContractSays(t *testing.T) {
	t.Parallel()
	stock, end := skus+"/"+tea.String()+"/stock", slots+"/"+morning.String()+"/close"
	sku := func(from, to string) string { return strings.Replace(goodSKU, from, to, 1) }
	level := func(from, to string) string { return strings.Replace(goodStock, from, to, 1) }
	slot := func(from, to string) string { return strings.Replace(goodSlot, from, to, 1) }
	tests := []struct {
		path, body, pointer string
		ours                bool
	}{
		{skus, `{}`, "/code", false},
		{skus, sku(`"tea-500"`, `""`), "/code", false},
		{skus, sku(`tea-500`, strings.Repeat("a", 65)), "/code", false},
		{skus, sku(`tea-500`, strings.Repeat("é", 33)), "/code", true},
		{skus, sku(`tea-500`, `a\nb`), "/code", false},
		{skus, sku(`tea-500`, `a\u0085b`), "/code", true},
		{skus, sku(`"Green tea"`, `""`), "/name", false},
		{skus, sku(`Green tea`, strings.Repeat("a", 201)), "/name", false},
		{skus, sku(`,"name":"Green tea"`, ``), "/name", false},
		{skus, sku(`1250`, `0`), "/price", false},
		{skus, sku(`1250`, `-1`), "/price", false},
		{skus, sku(`1250`, `1000000000000001`), "/price", false},
		{skus, sku(`1250`, `12.5`), "/price/value", false},
		{skus, sku(`EUR`, `eur`), "/price", false},
		{skus, sku(`EUR`, `ABC`), "/price", true},
		{skus, sku(`{"value":1250,"currency":"EUR"}`, `1250`), "/price", false},
		{skus, sku(`{"code"`, `{"stock":5,"code"`), "/stock", false},
		{stock, `{}`, "/location", false},
		{stock, level(`"main"`, `""`), "/location", false},
		{stock, level(`main`, strings.Repeat("a", 65)), "/location", false},
		{stock, level(`restock`, `consume`), "/kind", false},
		{stock, level(`"restock"`, `null`), "/kind", false},
		{stock, level(`40`, `0`), "/quantity", true},
		{stock, level(`40`, `-1`), "/quantity", true},
		{stock, level(`40`, `1000000001`), "/quantity", false},
		{stock, level(`40`, `1.5`), "/quantity", false},
		{stock, level(`40`, `9223372036854775808`), "/quantity", false},
		{stock, level(`"restock","quantity":40`, `"adjust","quantity":0`), "/quantity", true},
		{stock, level(`"restock","quantity":40`, `"adjust","quantity":-1000000001`), "/quantity", false},
		{stock, level(`"delivery 17"`, `""`), "/reason", false},
		{stock, level(`,"reason":"delivery 17"`, ``), "/reason", false},
		{stock, level(`delivery 17`, strings.Repeat("a", 501)), "/reason", false},
		{stock, level(`{"location"`, `{"reserved":0,"location"`), "/reserved", false},
		{slots, `{}`, "/starts_at", false},
		{slots, slot(`"main"`, `""`), "/location", false},
		{slots, slot(`"starts_at":"2026-11-23T08:00:00Z",`, ``), "/starts_at", false},
		{slots, slot(`"ends_at":"2026-11-23T10:00:00Z",`, ``), "/ends_at", false},
		{slots, slot(`T10:00:00Z`, `T08:00:00Z`), "/ends_at", true},
		{slots, slot(`T10:00:00Z`, `T07:00:00Z`), "/ends_at", true},
		{slots, slot(`T10:00:00Z`, `T08:00:00.0000009Z`), "/ends_at", true},
		{slots, slot(`2026-11-23T08:00:00Z`, `tomorrow`), "/starts_at", false},
		{slots, slot(`2026-11-23T08:00:00Z`, `2026-11-23`), "/starts_at", false},
		{slots, slot(`2026-11-23T08:00:00Z`, `2026-11-31T08:00:00Z`), "/starts_at", true},
		{slots, slot(`"2026-11-23T08:00:00Z"`, `1795420800`), "/starts_at", false},
		{slots, slot(`20}`, `0}`), "/capacity", false},
		{slots, slot(`20}`, `-1}`), "/capacity", false},
		{slots, slot(`20}`, `1000001}`), "/capacity", false},
		{slots, slot(`20}`, `20,"booked":1}`), "/booked", false},
		{end, `{"status":"open"}`, "/status", false},
		{end, `[]`, "", false},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprint(i, " ", tt.path), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			e := exchange{method: post, path: tt.path, body: tt.body}
			p := b.requireProblem(t, e, problem.ValidationFailed)
			require.Equal(t, tt.pointer, p.Errors[0].Pointer)
			require.NotEmpty(t, p.Errors[0].Detail)
			require.Equal(t, tt.ours, b.spec.request(t, e.request()) == nil, "what the contract says")
			require.Zero(t, b.fake.kept)
		})
	}
}

func TestATimeThatIsNoneIsExplainedAsSuch(t *testing.T) {
	t.Parallel()
	body := strings.Replace(goodSlot, `"2026-11-23T08:00:00Z"`, `7`, 1)
	p := setup(t).requireProblem(t, exchange{method: post, path: slots, body: body}, problem.ValidationFailed)
	require.Equal(t, "has to be a time like 2026-11-22T12:00:00Z", p.Errors[0].Detail)
}

func TestWhatTheInventoryMakesIsAnsweredAsTheContractSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.do(t, exchange{method: post, path: skus, body: goodSKU})
	require.Equal(t, http.StatusCreated, made.Code, made.text)
	require.Equal(t, skus+"/"+tea.String(), made.Header().Get("Location"))
	require.Contains(t, made.text, `"price":{"currency":"EUR","value":1250}`)

	opened := b.do(t, exchange{method: post, path: slots, body: goodSlot})
	require.Equal(t, http.StatusCreated, opened.Code, opened.text)
	require.Contains(t, opened.text, `"status":"open"`)
	closed := b.do(t, exchange{method: post, path: slots + "/" + morning.String() + "/close", body: "{}"})
	require.Equal(t, http.StatusOK, closed.Code, closed.text)
	require.Contains(t, closed.text, `"status":"closed"`)
}

func TestAStockChangeReachesTheDomainAsItWasSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	body := `{"location":"main","kind":"adjust","quantity":-3,"reason":"broken"}`
	a := b.do(t, exchange{method: post, path: skus + "/" + tea.String() + "/stock", body: body})
	require.Equal(t, http.StatusOK, a.Code, a.text)
	require.Equal(t, []inventory.Change{{
		SKU: tea, Location: "main", Kind: inventory.Adjust, Quantity: -3, Reason: "broken",
	}}, b.fake.changes)
	var out publicapi.Stock
	require.NoError(t, json.Unmarshal([]byte(a.text), &out))
	require.Equal(t, publicapi.Stock{SKU: tea, Location: "main", OnHand: 37, Available: 37, Version: 4}, out)
}

func TestTheTimesOfASlotAreAsExactAsTheirRow(t *testing.T) {
	t.Parallel()
	body := strings.Replace(goodSlot, "08:00:00Z", "09:00:00.123456789+01:00", 1)
	a := setup(t).do(t, exchange{method: post, path: slots, body: body})
	var out publicapi.Slot
	require.NoError(t, json.Unmarshal([]byte(a.text), &out))
	require.Equal(t, time.Date(2026, 11, 23, 8, 0, 0, 123_456_000, time.UTC), out.StartsAt)
}

func TestTheInventoryIsRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for path, want := range map[string]string{
		skus + "/" + tea.String(): `"code":"tea-500"`,
		skus + "/" + tea.String() + "/stock": `{"stock":[{"available":38,"location":"main","on_hand":40,` +
			`"reserved":2,"sku":"` + tea.String() + `","version":3}]}`,
		slots + "?location=elsewhere":                                          `{"slots":[]}`,
		skus + "?cursor=" + cursor(ofSKUs, coffee[:]):                          `{"skus":[]}`,
		slots + "?location=main&limit=1&cursor=" + cursor(ofSlots, morning[:]): evening.String(),
	} {
		a := b.do(t, exchange{method: get, path: path})
		require.Equal(t, http.StatusOK, a.Code, path)
		require.Contains(t, a.text, want)
	}
	for path, pointer := range map[string]string{
		skus + "?limit=201":                            "limit",
		skus + "?code=tea":                             "code",
		skus + "?cursor=" + cursor(ofSlots, tea[:]):    "cursor",
		slots + "?location=%00":                        "location",
		slots + "?location=" + strings.Repeat("a", 65): "location",
		slots + "?location=":                           "location",
		slots + "?limit=x":                             "limit",
		slots + "?cursor=" + cursor(ofSKUs, tea[:]):    "cursor",
	} {
		p := b.requireProblem(t, exchange{method: get, path: path}, problem.ValidationFailed)
		require.Equal(t, pointer, p.Errors[0].Pointer, path)
	}
}
