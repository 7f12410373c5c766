package httpapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/problem"
)

func ordering(body string) exchange { return exchange{method: post, path: "/v1/orders", body: body} }

func orderChanged(from, to string) string { return strings.Replace(goodOrder, from, to, 1) }

func previewingOrders(orders ...string) exchange {
	body := `{"orders":[` + strings.Join(orders, ",") + `]}`
	return exchange{method: post, path: "/v1/orders/preview", body: body, name: "-"}
}

// linesOf is that many lines of one SKU.
func linesOf(n int) string {
	line := `{"sku":"` + tea.String() + `","quantity":2}`
	return orderChanged(line, strings.TrimSuffix(strings.Repeat(line+",", n), ","))
}

// badOrders is every kind of bad body of POST /v1/orders that badTransfers does not have.
//
//nolint:lll // a table reads by lines
func badOrders() []badBody {
	const valid, malformed = problem.ValidationFailed, problem.MalformedRequest
	quantity := func(text string) string { return orderChanged(`"quantity":2`, `"quantity":`+text) }
	return []badBody{
		{"an empty object", "{}", valid, "/customer_account", false},
		{"a doubled name", orderChanged(`"quantity":2`, `"quantity":1,"quantity":2`), malformed, "/lines/0/quantity", true},
		{"an unknown name", orderChanged(`{"customer`, `{"x":1,"customer`), valid, "/x", false},
		{"an unknown name inside", orderChanged(`{"sku"`, `{"discount":5,"sku"`), valid, "/lines/0/discount", false},
		{"a price of its own", orderChanged(`{"sku"`, `{"unit_price":1,"sku"`), valid, "/lines/0/unit_price", false},
		{"a status of its own", orderChanged(`{"customer`, `{"status":"confirmed","customer`), valid, "/status", false},
		{"a payment of its own", orderChanged(`{"customer`, `{"payment":"settled","customer`), valid, "/payment", false},
		{"a total of its own", orderChanged(`{"customer`, `{"total":{"value":1,"currency":"EUR"},"customer`), valid, "/total", false},
		{"another case", orderChanged(`"location"`, `"Location"`), valid, "/Location", false},
		{"no customer", orderChanged(`"customer_account":"`+cash.String()+`",`, ""), valid, "/customer_account", false},
		{"no merchant", orderChanged(`"merchant_account":"`+bank.String()+`",`, ""), valid, "/merchant_account", false},
		{"the zero customer", orderChanged(cash.String(), "00000000-0000-0000-0000-000000000000"), valid, "/customer_account", true},
		{"one account twice", orderChanged(bank.String(), cash.String()), valid, "/merchant_account", true},
		{"an account that is a word", orderChanged(cash.String(), "cash"), valid, "/customer_account", false},
		{"no location", orderChanged(`"location":"main",`, ""), valid, "/location", false},
		{"an empty location", orderChanged(`"main"`, `""`), valid, "/location", false},
		{"a location that is a number", orderChanged(`"main"`, `7`), valid, "/location", false},
		{"a location that is too long", orderChanged(`main`, strings.Repeat("a", 65)), valid, "/location", false},
		{"a location of too many bytes", orderChanged(`main`, strings.Repeat("é", 33)), valid, "/location", true},
		{"a location with a tab", orderChanged(`main`, `a\tb`), valid, "/location", false},
		{"a location with a NUL", orderChanged(`main`, `a\u0000`), valid, "/location", false},
		{"a slot that is a word", orderChanged(morning.String(), "morning"), valid, "/slot", false},
		{"the zero slot", orderChanged(morning.String(), "00000000-0000-0000-0000-000000000000"), valid, "/slot", true},
		{"no lines", orderChanged(`"lines":[{"sku":"`+tea.String()+`","quantity":2}],`, ""), valid, "/lines", false},
		{"lines that are null", orderChanged(`[{"sku":"`+tea.String()+`","quantity":2}]`, "null"), valid, "/lines", false},
		{"an empty list of lines", linesOf(0), valid, "/lines", false},
		{"101 lines", linesOf(101), valid, "/lines", false},
		{"lines that are an object", orderChanged(`[{"sku":"`+tea.String()+`","quantity":2}]`, "{}"), valid, "/lines", false},
		{"a line that is null", orderChanged(`{"sku":"`+tea.String()+`","quantity":2}`, "null"), valid, "/lines/0/sku", false},
		{"a line without an SKU", orderChanged(`"sku":"`+tea.String()+`",`, ""), valid, "/lines/0/sku", false},
		{"an SKU that is its code", orderChanged(tea.String(), "tea-500"), valid, "/lines/0/sku", false},
		{"a line without a quantity", orderChanged(`,"quantity":2`, ""), valid, "/lines/0/quantity", false},
		{"zero units", quantity("0"), valid, "/lines/0/quantity", false},
		{"minus one unit", quantity("-1"), valid, "/lines/0/quantity", false},
		{"half a unit", quantity("0.5"), valid, "/lines/0/quantity", false},
		{"an exponent", quantity("1e2"), valid, "/lines/0/quantity", true},
		{"units in a string", quantity(`"2"`), valid, "/lines/0/quantity", false},
		{"more units than are counted", quantity("1000000001"), valid, "/lines/0/quantity", false},
		{"more units than 64 bits", quantity("9223372036854775808"), valid, "/lines/0/quantity", false},
		{"units wrapping around 64 bits", quantity("18446744073709551615"), valid, "/lines/0/quantity", false},
		{"lines that sum up to too much", strings.ReplaceAll(linesOf(2), `"quantity":2`, `"quantity":1000000000`), valid, "/lines", true},
		{"a reference that is too long", orderChanged("basket-7", strings.Repeat("a", 256)), valid, "/client_reference", false},
		{"a reference with a line break", orderChanged("basket-7", `a\nb`), valid, "/client_reference", false},
		{"metadata that is an array", orderChanged(`{"gift":true}`, "[]"), valid, "/metadata", false},
		{"metadata that is too deep", orderChanged(`{"gift":true}`, deep(17)), valid, "/metadata", true},
		{"metadata that is too large", orderChanged(`true`, `"`+strings.Repeat("a", 4_096)+`"`), valid, "/metadata", true},
	}
}

func TestEveryKindOfBadOrderIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range badOrders() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			e := ordering(tt.body)
			e.name = "one"
			p := b.requireProblem(t, e, tt.code)
			require.NotEmpty(t, p.Errors)
			require.Equal(t, tt.pointer, p.Errors[0].Pointer)
			require.NotEmpty(t, p.Errors[0].Detail)
			require.Empty(t, b.fake.placed)
			assert.Equal(t, tt.ours, b.spec.request(t, e.request()) == nil, "what the contract says")
			e.body = goodOrder
			require.Equal(t, http.StatusAccepted, b.do(t, e).Code, "the key is not used up")
		})
	}
}

func TestOrdersThatAreAllowedAreTaken(t *testing.T) {
	t.Parallel()
	without := orderChanged(`"slot":"`+morning.String()+`",`, "")
	for name, body := range map[string]string{
		"the usual":             goodOrder,
		"no slot":               without,
		"a slot that is null":   orderChanged(`"`+morning.String()+`"`, "null"),
		"no reference":          orderChanged(`,"client_reference":"basket-7","metadata":{"gift":true}`, ""),
		"null for what is not":  orderChanged(`"basket-7","metadata":{"gift":true}`, `null,"metadata":null`),
		"100 lines":             linesOf(100),
		"the most units":        orderChanged(`"quantity":2`, `"quantity":1000000000`),
		"the longest location":  orderChanged("main", strings.Repeat("a", 64)),
		"a location with words": orderChanged("main", "Köln, Halle 7"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := setup(t).do(t, ordering(body))
			require.Equal(t, http.StatusAccepted, a.Code, a.text)
			require.Equal(t, "/v1/orders/"+known.String(), a.Header().Get("Location"))
		})
	}
}

func TestAnOrderReachesTheDomainAsItWasSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.do(t, ordering(goodOrder))
	c := b.fake.placed[0]
	require.Equal(t, "api:acme", c.Actor)
	require.Equal(t, "request:"+a.Header().Get("X-Request-Id"), c.Cause)
	require.Equal(t, acme, c.Key.TenantID)
	require.Equal(t, []order.New{{
		CustomerAccount: cash, MerchantAccount: bank, Location: "main", Slot: morning,
		Lines: []order.Line{{SKU: tea, Quantity: 2}}, ClientReference: "basket-7",
		Metadata: json.RawMessage(`{"gift":true}`),
	}}, c.Items)
	var out publicapi.Order
	require.NoError(t, json.Unmarshal([]byte(a.text), &out))
	require.Equal(t, []publicapi.OrderLine{{SKU: tea, Quantity: 2, UnitPrice: 1250}}, out.Lines)
	require.Equal(t, publicapi.OrderStatusPending, out.Status)
	require.NotContains(t, a.text, "reservation_expires_at")
	require.NotContains(t, a.text, "payment_transfer")
}

func TestAKeyTellsOrdersApartByAllThatTheySay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := ordering(goodOrder)
	first.name = "one"
	require.Equal(t, http.StatusAccepted, b.do(t, first).Code)
	for _, body := range []string{
		orderChanged(`"quantity":2`, `"quantity":3`), orderChanged(tea.String(), coffee.String()), linesOf(2),
		orderChanged("main", "other"), orderChanged(morning.String(), evening.String()),
		orderChanged(`"slot":"`+morning.String()+`",`, ""), orderChanged("basket-7", "basket-8"),
		orderChanged("true", "false"), orderChanged(bank.String(), theirs.String()),
	} {
		e := ordering(body)
		e.name = "one"
		b.requireProblem(t, e, problem.KeyReused)
	}
	require.Len(t, b.fake.placed, 1)
}

// There is no way to confirm an order but its payment: no route, no field, no status.
func TestNobodyConfirmsAnOrderByHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v1/orders/" + known.String()
	for _, action := range []string{"/confirm", "/pay", "/reserve", "/status"} {
		for _, method := range []string{post, put, get} {
			e := exchange{method: method, path: path + action, body: "{}"}
			b.requireProblem(t, e, problem.RouteNotFound)
		}
	}
	for _, method := range []string{post, put, http.MethodPatch, http.MethodDelete} {
		b.requireProblem(t, exchange{method: method, path: path, body: `{"status":"confirmed"}`},
			problem.MethodNotAllowed)
	}
	e := exchange{method: post, path: path + "/cancel", body: `{"status":"confirmed"}`}
	b.requireProblem(t, e, problem.ValidationFailed)
	require.Empty(t, b.fake.orderActs)
}

func TestAConfirmedOrderIsNotCanceled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.refuse = problem.New(problem.IllegalTransition, "The order is confirmed.")
	e := exchange{method: post, path: "/v1/orders/" + known.String() + "/cancel", name: "one"}
	first := b.requireProblem(t, e, problem.IllegalTransition)
	require.Equal(t, int32(http.StatusConflict), first.Status)
	require.Equal(t, first, b.requireProblem(t, e, problem.IllegalTransition), "the refusal is stored")
	require.Len(t, b.fake.orderActs, 1)
}

func TestACancellationTellsTheDomainWhoAndWhy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v1/orders/" + known.String() + "/cancel"
	a := b.do(t, exchange{method: post, path: path, body: `{"reason":"ordered twice"}`})
	require.Equal(t, http.StatusOK, a.Code, a.text)
	require.Contains(t, a.text, `"status":"canceled"`)
	act := b.fake.orderActs[0]
	require.Equal(t, order.Cancel, act.Event)
	require.Equal(t, known, act.ID)
	require.Equal(t, "ordered twice", act.Reason)
	require.Equal(t, "api:acme", act.Actor)
	require.Equal(t, "request:"+a.Header().Get("X-Request-Id"), act.Cause)

	for body, pointer := range map[string]string{
		`{"because":"x"}`: "/because", `{"reason":7}`: "/reason", `{"reason":"a\nb"}`: "/reason",
		`{"reason":"` + strings.Repeat("a", 501) + `"}`: "/reason",
	} {
		e := exchange{method: post, path: path, body: body}
		p := b.requireProblem(t, e, problem.ValidationFailed)
		require.Equal(t, pointer, p.Errors[0].Pointer)
		require.Error(t, b.spec.request(t, e.request()))
	}
}

func TestAPreviewOfOrdersAnswersEveryItem(t *testing.T) {
	t.Parallel()
	zero := orderChanged(`"quantity":2`, `"quantity":0`)
	for _, orders := range [][]string{{goodOrder}, {zero}, {goodOrder, zero, goodOrder}} {
		b := setup(t)
		w, r := httptest.NewRecorder(), previewingOrders(orders...).request()
		b.handler.ServeHTTP(w, r)
		b.spec.response(t, r, w.Code, w.Header(), w.Body.Bytes())
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		require.Empty(t, b.fake.placed)
		var out publicapi.OrderResults
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
		require.Len(t, out.Results, len(orders))
		for i, body := range orders {
			if body == zero {
				require.Equal(t, int32(http.StatusUnprocessableEntity), out.Results[i].Status)
				require.Equal(t, "/lines/0/quantity", out.Results[i].Problem.Errors[0].Pointer)
				continue
			}
			require.Equal(t, int32(http.StatusAccepted), out.Results[i].Status)
			require.Equal(t, known, out.Results[i].Order.ID)
		}
	}
}

func TestAPreviewOfOrdersIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	most := slices.Repeat([]string{goodOrder}, order.BulkMaxItems)
	require.Equal(t, http.StatusOK, b.do(t, previewingOrders(most...)).Code)
	for pointer, orders := range map[string][]string{
		"/orders":            append(most, goodOrder),
		"/orders/0":          {`"x"`},
		"/orders/1/metadata": {goodOrder, orderChanged(`{"gift":true}`, "7")},
	} {
		e := previewingOrders(orders...)
		p := b.requireProblem(t, e, problem.ValidationFailed)
		require.Equal(t, pointer, p.Errors[0].Pointer)
		require.Error(t, b.spec.request(t, e.request()))
	}
	p := b.requireProblem(t, previewingOrders(), problem.ValidationFailed)
	require.Equal(t, "/orders", p.Errors[0].Pointer)
	slot := orderChanged(morning.String(), "00000000-0000-0000-0000-000000000000")
	p = b.requireProblem(t, previewingOrders(goodOrder, slot), problem.ValidationFailed)
	require.Equal(t, "/orders/1/slot", p.Errors[0].Pointer)
}

func TestAnOrderIsReadAfterItsEndWhenTheClientPrefersToWait(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := exchange{method: get, path: "/v1/orders/" + known.String()}
	at := b.do(t, e)
	require.Contains(t, at.text, `"status":"confirmed"`)
	require.Contains(t, at.text, `"payment":"settled"`)
	require.Empty(t, at.Header().Get("Preference-Applied"))
	require.Empty(t, b.fake.waited)

	e.header = http.Header{"Prefer": {"wait=7"}}
	require.Equal(t, "wait=7", b.do(t, e).Header().Get("Preference-Applied"))
	require.Equal(t, 7*time.Second, b.fake.waited[0])

	e.header.Set("Request-Timeout", "2000")
	b.do(t, e)
	require.Less(t, b.fake.waited[1], 2*time.Second, "the answer comes before the deadline")

	full := setup(t, func(c *Config) { c.WaitersMax = -1 })
	require.Empty(t, full.do(t, e).Header().Get("Preference-Applied"))
	require.Empty(t, full.fake.waited)
}

func TestFiltersOfOrdersReachTheDomain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	query := "status=confirmed&account=" + cash.String() + "&sku=" + tea.String() +
		"&client_reference=a%20b&created_from=2026-11-22T12:00:00Z&limit=7"
	a := b.do(t, exchange{method: get, path: "/v1/orders?" + query})
	require.Equal(t, http.StatusOK, a.Code, a.text)
	require.Equal(t, order.Filter{
		State: order.Confirmed, Account: cash, SKU: tea, ClientReference: "a b", CreatedFrom: noon, Limit: 7,
	}, b.fake.orderFilters[0])
	for _, query := range []string{
		"status=settled", "sku=tea-500", "sku=" + strings.Repeat("x", 36), "account=cash", "limit=0",
		"limit=" + strconv.Itoa(pageMax+1), "cursor=" + cursor(ofTransfers, known[:]), "client_reference=%00",
		"created_to=now", "slot=" + morning.String(),
	} {
		name, _, _ := strings.Cut(query, "=")
		p := b.requireProblem(t, exchange{method: get, path: "/v1/orders?" + query}, problem.ValidationFailed)
		require.Equal(t, name, p.Errors[0].Pointer)
	}
}

func TestTheEventsOfAnOrderAreReadFromASequenceNumber(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v1/orders/" + known.String() + "/events"
	require.Contains(t, b.do(t, exchange{method: get, path: path}).text, `"type":"order.pending"`)
	require.JSONEq(t, `{"events":[]}`, b.do(t, exchange{method: get, path: path + "?after=1"}).text)
	b.requireProblem(t, exchange{method: get, path: path + "?after=-1"}, problem.ValidationFailed)
}
