package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/problem"
)

// badBody is a body that has to be refused, and how.
type badBody struct {
	name, body string
	code       problem.Code
	// pointer is where the (first) mistake is.
	pointer string
	// ours says that the contract's own words cannot refuse it: bytes against characters, doubled
	// names, active currencies, two fields that have to differ.
	ours bool
}

func changed(from, to string) string { return strings.Replace(goodTransfer, from, to, 1) }

func deep(levels int) string {
	return strings.Repeat(`{"a":`, levels-1) + "{}" + strings.Repeat("}", levels-1)
}

// badTransfers is every kind of bad body of POST /v1/transfers.
//
//nolint:lll // a table reads by lines
func badTransfers() []badBody {
	const valid, malformed = problem.ValidationFailed, problem.MalformedRequest
	ref := func(text string) string { return changed(`"invoice-7"`, text) }
	meta := func(text string) string { return changed(`{"order":"7"}`, text) }
	value := func(text string) string { return changed("125", text) }
	return []badBody{
		{"nothing", "", malformed, "", false},
		{"white space", " \n", malformed, "", false},
		{"null", "null", valid, "/from_account", false},
		{"an array", "[]", valid, "", false},
		{"a string", `"x"`, valid, "", false},
		{"cut off", goodTransfer[:40], malformed, "", false},
		{"trailing data", goodTransfer + "{}", malformed, "", true},
		{"trailing comma", changed(`{"order":"7"}}`, `{"order":"7"},}`), malformed, "", false},
		{"a comment", "/* x */" + goodTransfer, malformed, "", false},
		{"single quotes", strings.ReplaceAll(goodTransfer, `"`, `'`), malformed, "", false},
		{"syntax behind an unknown name", `{"x":1,,}`, malformed, "", false},
		{"invalid UTF-8", ref("\"a\xffb\""), malformed, "", true},
		{"a lone surrogate", ref(`"\ud800"`), malformed, "", true},
		{"a raw NUL", ref("\"a\x00b\""), malformed, "", false},
		{"an escaped NUL", ref(`"a\u0000b"`), valid, "/client_reference", false},
		{"an escaped NUL in metadata", meta(`{"a":{"b":"\u0000"}}`), valid, "/metadata/a/b", true},
		{"an escaped NUL in a name", meta(`{"a\u0000":1}`), valid, "/metadata/a\x00", true},
		{"a doubled name", changed(`{"value"`, `{"value":1,"value"`), malformed, "/amount/value", true},
		{"a doubled name in metadata", meta(`{"a":1,"a":2}`), malformed, "/metadata/a", true},
		{"an unknown name", changed(`{"from_account"`, `{"x":1,"from_account"`), valid, "/x", false},
		{"an unknown name inside", changed(`{"value"`, `{"cents":1,"value"`), valid, "/amount/cents", false},
		{"another case", changed(`"client_reference"`, `"Client_Reference"`), valid, "/Client_Reference", false},
		{"another case hides an amount", changed(`{"value":125`, `{"value":125,"VALUE":-5`), valid, "/amount/VALUE", false},
		{"no from_account", `{"to_account":"` + bank.String() + `","amount":{"value":1,"currency":"EUR"}}`, valid, "/from_account", false},
		{"no to_account", `{"from_account":"` + cash.String() + `","amount":{"value":1,"currency":"EUR"}}`, valid, "/to_account", false},
		{"no amount", `{"from_account":"` + cash.String() + `","to_account":"` + bank.String() + `"}`, valid, "/amount", false},
		{"no value", changed(`"value":125,`, ""), valid, "/amount", false},
		{"no currency", changed(`,"currency":"EUR"`, ""), valid, "/amount", false},
		{"an empty object", "{}", valid, "/from_account", false},
		{"an account that is a number", changed(`"`+cash.String()+`"`, "7"), valid, "/from_account", false},
		{"an account that is null", changed(`"`+cash.String()+`"`, "null"), valid, "/from_account", false},
		{"an account that is a word", changed(cash.String(), "cash"), valid, "/from_account", false},
		{"an account in braces", changed(cash.String(), "{"+cash.String()+"}"), valid, "/from_account", false},
		{"an account as a URN", changed(cash.String(), "urn:uuid:"+cash.String()), valid, "/from_account", false},
		{"an account without hyphens", changed(cash.String(), strings.ReplaceAll(cash.String(), "-", "")), valid, "/from_account", false},
		{"an account of 36 characters", changed(cash.String(), strings.Repeat("x", 36)), valid, "/from_account", false},
		{"the zero account", changed(cash.String(), "00000000-0000-0000-0000-000000000000"), valid, "/from_account", true},
		{"one account twice", changed(bank.String(), cash.String()), valid, "/to_account", true},
		{"an amount that is a number", changed(`{"value":125,"currency":"EUR"}`, "125"), valid, "/amount", false},
		{"an amount that is null", changed(`{"value":125,"currency":"EUR"}`, "null"), valid, "/amount", false},
		{"zero", value("0"), valid, "/amount", false},
		{"minus zero", value("-0"), valid, "/amount", false},
		{"negative", value("-1"), valid, "/amount", false},
		{"more than the largest", value("1000000000000001"), valid, "/amount", false},
		{"more than 64 bits", value("9223372036854775808"), valid, "/amount/value", false},
		{"wrapping around 64 bits", value("18446744073709551741"), valid, "/amount/value", false},
		{"a huge number", value(strings.Repeat("9", 400)), valid, "/amount/value", false},
		{"a fraction", value("1.5"), valid, "/amount/value", false},
		{"a fraction of zero", value("1.0"), valid, "/amount/value", true},
		{"an exponent", value("1e2"), valid, "/amount/value", true},
		{"a value in a string", value(`"125"`), valid, "/amount/value", false},
		{"a value that is true", value("true"), valid, "/amount/value", false},
		{"a value that is null", value("null"), valid, "/amount", false},
		{"a leading zero", value("0125"), malformed, "", false},
		{"a plus sign", value("+125"), malformed, "", false},
		{"NaN", value("NaN"), malformed, "", false},
		{"a currency in lower case", changed("EUR", "eur"), valid, "/amount", false},
		{"a currency that is none", changed("EUR", "ABC"), valid, "/amount", true},
		{"a currency that was replaced", changed("EUR", "HRK"), valid, "/amount", true},
		{"a currency of four letters", changed("EUR", "EURO"), valid, "/amount", false},
		{"a currency that is a number", changed(`"EUR"`, "978"), valid, "/amount/currency", false},
		{"a reference that is a number", ref("7"), valid, "/client_reference", false},
		{"a reference that is too long", ref(`"` + strings.Repeat("a", 256) + `"`), valid, "/client_reference", false},
		{"a reference of too many bytes", ref(`"` + strings.Repeat("é", 128) + `"`), valid, "/client_reference", true},
		{"a reference with a line break", ref(`"a\nb"`), valid, "/client_reference", false},
		{"a reference with DEL", ref(`"a\u007fb"`), valid, "/client_reference", false},
		{"metadata that is an array", meta("[]"), valid, "/metadata", false},
		{"metadata that is a string", meta(`"x"`), valid, "/metadata", false},
		{"metadata that is true", meta("true"), valid, "/metadata", false},
		{"metadata that is too deep", meta(deep(17)), valid, "/metadata", true},
		{"metadata that is too large", meta(`{"a":"` + strings.Repeat("a", 4_096) + `"}`), valid, "/metadata", true},
		{"a server's field", changed(`{"from_account"`, `{"status":"settled","from_account"`), valid, "/status", false},
	}
}

func TestEveryKindOfBadTransferIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range badTransfers() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			e := creating(tt.body)
			e.name, e.header = "one", http.Header{"Content-Type": {typeJSON}}
			p := b.requireProblem(t, e, tt.code)
			if tt.pointer != "" {
				require.NotEmpty(t, p.Errors)
				require.Equal(t, tt.pointer, p.Errors[0].Pointer)
				require.NotEmpty(t, p.Errors[0].Detail)
			}
			require.Empty(t, b.fake.created)
			e.body = goodTransfer
			require.Equal(t, http.StatusAccepted, b.do(t, e).Code, "the key is not used up")
		})
	}
}

// The contract is checked with kin-openapi in tests only; this is why that is enough: nothing that it
// would refuse gets past the decoder and the domain.
func TestWhatTheContractRefusesIsRefusedWithoutIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, tt := range badTransfers() {
		e := creating(tt.body)
		e.header = http.Header{"Content-Type": {typeJSON}}
		err := b.spec.request(t, e.request())
		assert.Equal(t, tt.ours, err == nil, "%s: the contract says %v", tt.name, err)
	}
	require.NoError(t, b.spec.request(t, creating(goodTransfer).request()))
}

func TestWhatIsAllowedIsTaken(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"the usual":                goodTransfer,
		"only what is required":    changed(`,"client_reference":"invoice-7","metadata":{"order":"7"}`, ""),
		"null for what is not":     changed(`"invoice-7","metadata":{"order":"7"}`, `null,"metadata":null`),
		"an empty reference":       changed("invoice-7", ""),
		"a reference of 255 bytes": changed("invoice-7", strings.Repeat("a", 255)),
		"an escaped backslash":     changed(`"7"}`, `"\\u0000"}`),
		"upper case ids":           changed(cash.String(), strings.ToUpper(cash.String())),
		"the largest amount":       changed("125", "1000000000000000"),
		"white space around":       "\r\n\t " + goodTransfer + " \n",
		"sixteen levels":           changed(`{"order":"7"}`, deep(16)),
		"brackets in a string":     changed(`"7"`, `"`+strings.Repeat("{", 99)+`\""`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := setup(t).do(t, creating(body))
			require.Equal(t, http.StatusAccepted, a.Code, a.text)
			require.Equal(t, "/v1/transfers/"+known.String(), a.Header().Get("Location"))
		})
	}
}

//nolint:lll // a table reads by lines
func TestBadBodiesOfOtherRoutesAreRefusedAsTheContractSays(t *testing.T) {
	t.Parallel()
	transferPath, accountPath := "/v1/transfers/"+known.String(), "/v1/accounts/"+cash.String()
	batchOf := func(n int) string {
		return `{"transfers":[` + strings.TrimSuffix(strings.Repeat(goodTransfer+",", n), ",") + `]}`
	}
	tests := []struct {
		method, path, body, pointer string
		ours                        bool
	}{
		{post, "/v1/transfers/bulk", `{}`, "/transfers", false},
		{post, "/v1/transfers/bulk", `{"transfers":null}`, "/transfers", false},
		{post, "/v1/transfers/bulk", batchOf(0), "/transfers", false},
		{post, "/v1/transfers/bulk", batchOf(101), "/transfers", false},
		{post, "/v1/transfers/bulk", `{"transfers":{}}`, "/transfers", false},
		{post, "/v1/transfers/bulk", `{"transfers":["x"]}`, "/transfers/0", false},
		{post, "/v1/transfers/bulk", `{"transfers":[` + changed("125", "1.5") + `]}`, "/transfers/0/amount/value", false},
		{post, "/v1/transfers/bulk", `{"transfers":[` + changed(`{"order":"7"}`, "7") + `]}`, "/transfers/0/metadata", false},
		{post, "/v1/transfers/preview", batchOf(0), "/transfers", false},
		{post, transferPath + "/cancel", `{"because":"x"}`, "/because", false},
		{post, transferPath + "/cancel", `{"reason":7}`, "/reason", false},
		{post, transferPath + "/cancel", `{"reason":"a\nb"}`, "/reason", false},
		{post, transferPath + "/cancel", `{"reason":"` + strings.Repeat("a", 501) + `"}`, "/reason", false},
		{post, transferPath + "/cancel", `{"reason":"` + strings.Repeat("é", 251) + `"}`, "/reason", true},
		{post, transferPath + "/reversals", `{"value":0}`, "/value", false},
		{post, transferPath + "/reversals", `{"value":-1}`, "/value", false},
		{post, transferPath + "/reversals", `{"value":1000000000000001}`, "/value", false},
		{post, transferPath + "/reversals", `{"value":1.5}`, "/value", false},
		{post, transferPath + "/reversals", `{"amount":{"value":1,"currency":"EUR"}}`, "/amount", false},
		{post, transferPath + "/reversals", `{"metadata":[]}`, "/metadata", false},
		{post, transferPath + "/reversals", `{"client_reference":"a\tb"}`, "/client_reference", false},
		{post, "/v1/accounts", `{"kind":"user","currency":"EUR"}`, "/name", false},
		{post, "/v1/accounts", `{"name":"","kind":"user","currency":"EUR"}`, "/name", false},
		{post, "/v1/accounts", `{"name":"a\u0000","kind":"user","currency":"EUR"}`, "/name", false},
		{post, "/v1/accounts", `{"name":"` + strings.Repeat("a", 201) + `","kind":"user","currency":"EUR"}`, "/name", false},
		{post, "/v1/accounts", `{"name":"a","kind":"user","currency":"EUR","floor":-5}`, "/floor", false},
		{put, accountPath + "/status", `{}`, "/status", false},
		{put, accountPath + "/status", `{"status":"gone"}`, "/status", false},
		{put, accountPath + "/status", `{"status":null}`, "/status", false},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprint(i, " ", tt.path), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			e := exchange{method: tt.method, path: tt.path, body: tt.body}
			p := b.requireProblem(t, e, problem.ValidationFailed)
			require.Equal(t, tt.pointer, p.Errors[0].Pointer)
			require.Equal(t, tt.ours, b.spec.request(t, e.request()) == nil)
			require.Empty(t, b.fake.created)
			require.Empty(t, b.fake.acted)
		})
	}
}

func TestParametersAreRefusedWhenTheyAreNotAsTheContractSays(t *testing.T) {
	t.Parallel()
	tests := []struct{ path, pointer string }{
		{"/v1/transfers?limit=0", "limit"},
		{"/v1/transfers?limit=201", "limit"},
		{"/v1/transfers?limit=x", "limit"},
		{"/v1/transfers?limit=99999999999", "limit"},
		{"/v1/transfers?limit=", "limit"},
		{"/v1/transfers?limit=1&limit=2", "limit"},
		{"/v1/transfers?stauts=settled", "stauts"},
		{"/v1/transfers?status=done", "status"},
		{"/v1/transfers?account=cash", "account"},
		{"/v1/transfers?account=" + strings.Repeat("x", 36), "account"},
		{"/v1/transfers?created_from=yesterday", "created_from"},
		{"/v1/transfers?created_to=2026-11-22T25:00:00Z", "created_to"},
		{"/v1/transfers?client_reference=%00", "client_reference"},
		{"/v1/transfers?client_reference=%ff", "client_reference"},
		{"/v1/transfers?cursor=x", "cursor"},
		{"/v1/transfers?cursor=" + cursor(ofAccounts, cash[:]), "cursor"},
		{"/v1/transfers?a=%zz", "query"},
		{"/v1/accounts?limit=201", "limit"},
		{"/v1/accounts?status=active", "status"},
		{"/v1/accounts?cursor=" + numberCursor(ofPostings, 1), "cursor"},
		{"/v1/accounts/" + cash.String() + "/balance?at=now", "at"},
		{"/v1/accounts/" + cash.String() + "/postings?limit=-1", "limit"},
		{"/v1/accounts/" + cash.String() + "/postings?cursor=" + cursor(ofAccounts, cash[:]), "cursor"},
		{"/v1/transfers/" + known.String() + "/events?after=-1", "after"},
		{"/v1/transfers/" + known.String() + "?wait=1", "wait"},
		{"/livez?verbose=1", "verbose"},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			t.Parallel()
			p := setup(t).requireProblem(t, exchange{method: get, path: tt.path}, problem.ValidationFailed)
			require.Equal(t, tt.pointer, p.Errors[0].Pointer)
		})
	}
}

func TestIDsOfOthersAndIDsThatAreNoneAreAnsweredAlike(t *testing.T) {
	t.Parallel()
	routes := []exchange{
		{method: get, path: "/v1/transfers/%s"},
		{method: get, path: "/v1/transfers/%s/events"},
		{method: post, path: "/v1/transfers/%s/cancel"},
		{method: post, path: "/v1/transfers/%s/reversals"},
		{method: get, path: "/v1/accounts/%s"},
		{method: put, path: "/v1/accounts/%s/status", body: `{"status":"frozen"}`},
		{method: get, path: "/v1/accounts/%s/balance"},
		{method: get, path: "/v1/accounts/%s/balance?at=2026-11-22T12:00:00Z"},
		{method: get, path: "/v1/accounts/%s/postings"},
		{method: get, path: "/v1/orders/%s"},
		{method: get, path: "/v1/orders/%s/events"},
		{method: post, path: "/v1/orders/%s/cancel"},
		{method: get, path: "/v1/skus/%s"},
		{method: get, path: "/v1/skus/%s/stock"},
		{method: post, path: "/v1/skus/%s/stock", body: goodStock},
		{method: post, path: "/v1/slots/%s/close"},
		{method: get, path: hooks + "/%s"},
		{method: put, path: hooks + "/%s", body: goodHook},
		{method: del, path: hooks + "/%s"},
		{method: post, path: hooks + "/%s/pause"},
		{method: post, path: hooks + "/%s/resume"},
		{method: get, path: hooks + "/%s/secret"},
		{method: post, path: hooks + "/%s/secret/rotate"},
		{method: post, path: hooks + "/%s/ping"},
		{method: post, path: hooks + "/%s/resend", body: goodResend},
		{method: get, path: hooks + "/%s/attempts"},
		{method: get, path: hooks + "/%s/dead-letters"},
		{method: post, path: hooks + "/%s/dead-letters/redrive"},
	}
	for _, e := range routes {
		t.Run(e.method+" "+e.path, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			pattern := e.path
			id := idOf(pattern)
			ask := func(id, key string) string {
				e.path, e.key = fmt.Sprintf(pattern, id), key
				p := b.requireProblem(t, e, problem.NotFound)
				require.Empty(t, p.Errors)
				p.RequestID = ""
				return strings.ReplaceAll(fmt.Sprint(p), id, "ID")
			}
			require.Equal(t, ask(absent.String(), "globex"), ask(id, "globex"))
			for _, none := range []string{
				"x", "preview", strings.Repeat("x", 36), "urn:uuid:" + id, id + "0", "%00",
			} {
				ask(none, "acme")
			}
		})
	}
}

func TestOtherMediaTypesAreRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"application/json":                     true,
		"application/json; charset=utf-8":      true,
		"Application/JSON; charset=UTF-8":      true,
		"application/json; charset=iso-8859-1": false,
		"application/x-www-form-urlencoded":    false,
		"text/plain":                           false,
		"application/merge-patch+json":         false,
		"application/json, text/plain":         false,
		"":                                     false,
	}
	for given, fine := range tests {
		t.Run(given, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			e := creating(goodTransfer)
			e.header = http.Header{"Content-Type": {given}}
			if fine {
				require.Equal(t, http.StatusAccepted, b.do(t, e).Code)
				return
			}
			b.requireProblem(t, e, problem.UnsupportedMediaType)
		})
	}
	e := creating(goodTransfer)
	e.header = http.Header{"Content-Encoding": {"gzip"}}
	setup(t).requireProblem(t, e, problem.UnsupportedMediaType)
}

func TestABodyMayBeLeftOutWhereTheContractSaysSo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{"/cancel", "/reversals"} {
		a := b.do(t, exchange{method: post, path: "/v1/transfers/" + known.String() + path})
		require.Less(t, a.Code, 300, a.text)
	}
	require.Equal(t, int64(125), b.fake.created[0].Items[0].Amount.Value)
	b.requireProblem(t, exchange{
		method: post, path: "/v1/transfers", header: http.Header{"Content-Type": {typeJSON}},
	}, problem.MalformedRequest)
}
