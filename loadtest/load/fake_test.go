package load

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// fake is an API that keeps every promise, apart from those that a test lets it break.
type fake struct {
	mu        sync.Mutex
	created   time.Time
	balances  map[uuid.UUID]int64
	answers   map[string]string // by key
	bodies    map[string]string // by key
	transfers map[uuid.UUID]string
	events    []string
	unplaced  []string // events that the feed tells of later
	n         int      // transfers of the load

	// What it does to the nth transfer of the load, from 1.
	lose, forget, twice, late, leak int
	// otherBody answers a repeat with something else.
	otherBody bool
	// without is the status for a transfer without a key.
	without int
	// answer is asked before a transfer is taken; it may write an answer of its own.
	answer func(n int, w http.ResponseWriter) bool
}

const fakeKey = "hf_test_key"

// fund is the account that the money of the load comes from.
var fund = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000aa")

// serve starts a fake and returns it with options that load it for a short time.
func serve(t *testing.T) (*fake, Options) {
	t.Helper()
	f := &fake{
		created:  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		balances: map[uuid.UUID]int64{fund: 1_000_000_000},
		answers:  map[string]string{}, bodies: map[string]string{}, transfers: map[uuid.UUID]string{},
		without: http.StatusBadRequest,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/accounts", f.open)
	mux.HandleFunc("GET /v1/accounts", f.list)
	mux.HandleFunc("GET /v1/accounts/{id}/balance", f.balance)
	mux.HandleFunc("POST /v1/transfers", f.transfer)
	mux.HandleFunc("GET /v1/transfers/{id}", f.get)
	mux.HandleFunc("GET /v1/transfers", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v1/events", f.feed)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/livez" && r.Header.Get("Authorization") != "Bearer "+fakeKey {
			refuse(w, http.StatusUnauthorized, "unauthenticated")
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return f, Options{
		URL: s.URL, Keys: []Key{{Class: "standard", Secret: fakeKey}}, Mix: "transfers", Profile: "steady",
		Rate: 200, Duration: 300 * time.Millisecond, RequestsMax: RequestsMax, Seed: 1, Callers: 32,
		Accounts: 4, Fund: 20_000, Currency: "EUR", Drain: 10 * time.Second,
		Now: time.Now, Progress: t.Output(), //nolint:forbidigo // a load runs by the wall clock
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Retry-After", "2")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"type":"/problems/%s","status":%d,"code":%q}`, code, status, code)
}

func (f *fake) account(id uuid.UUID) string {
	return fmt.Sprintf(`{"id":%q,"name":"x","kind":"user","currency":"EUR","status":"active",`+
		`"created_at":"2026-01-01T00:00:00Z","balance":%s}`, id, f.level(id))
}

func (f *fake) level(id uuid.UUID) string {
	return fmt.Sprintf(`{"currency":"EUR","posted":%d,"held":0,"available":%d,"version":1}`, f.balances[id],
		f.balances[id])
}

func (f *fake) open(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if f.answers[key] == "" {
		id := uuid.New()
		f.balances[id] = 0
		f.answers[key] = f.account(id)
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, f.answers[key])
}

func (f *fake) list(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _ = io.WriteString(w, `{"accounts":[`+f.account(fund)+`]}`)
}

func (f *fake) balance(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _ = io.WriteString(w, f.level(uuid.MustParse(r.PathValue("id"))))
}

func (f *fake) get(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body := f.transfers[uuid.MustParse(r.PathValue("id"))]
	if body == "" {
		refuse(w, http.StatusNotFound, "not_found")
		return
	}
	_, _ = io.WriteString(w, body)
}

// asked is the body of a transfer.
type asked struct {
	From   uuid.UUID `json:"from_account"`
	To     uuid.UUID `json:"to_account"`
	Amount struct {
		Value int64 `json:"value"`
	} `json:"amount"`
}

func (f *fake) transfer(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	var a asked
	if json.Unmarshal(text, &a) != nil {
		refuse(w, http.StatusBadRequest, "malformed_request")
		return
	}
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		refuse(w, f.without, "without a key")
		return
	}
	f.mu.Lock()
	known := f.answers[key]
	if a.From != fund && known == "" {
		f.n++
	}
	n := f.n
	f.mu.Unlock()
	if a.From != fund && known == "" && f.answer != nil && f.answer(n, w) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch known = f.answers[key]; {
	case known == "":
		f.bodies[key] = string(text)
		f.answers[key] = f.take(a, n)
	case f.bodies[key] != string(text):
		refuse(w, http.StatusConflict, "idempotency_key_reused")
		return
	case f.otherBody:
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, known+" ")
		return
	}
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, f.answers[key])
}

// take settles a transfer at once and returns the answer to it.
func (f *fake) take(a asked, n int) string {
	id := uuid.New()
	if a.From == fund {
		n = -1
	}
	const form = `{"id":%q,"status":%q,"promise_at":%q,"created_at":%q}`
	say := func(status string) string {
		return fmt.Sprintf(form, id, status, f.created.Add(time.Minute).Format(time.RFC3339),
			f.created.Format(time.RFC3339))
	}
	f.transfers[id] = say("settled")
	switch n {
	case f.lose:
		f.transfers[id] = say("accepted")
		return say("accepted")
	case f.forget:
		delete(f.transfers, id)
		return say("accepted")
	}
	at := f.created.Add(5 * time.Millisecond)
	if n == f.late {
		at = f.created.Add(2 * time.Minute)
	}
	f.tell(id, "transfer.settled", 3, at, a)
	if n == f.twice {
		f.tell(id, "transfer.failed", 4, at, a)
	}
	f.balances[a.From] -= a.Amount.Value
	f.balances[a.To] += a.Amount.Value
	if n == f.leak {
		f.balances[a.To]++
	}
	return say("accepted")
}

func (f *fake) tell(id uuid.UUID, kind string, seq int, at time.Time, a asked) {
	const form = `{"id":"%s-%d","subject":%q,"type":%q,"time":%q,"data":{"seq":%d,"transfer":{` +
		`"from_account":%q,"to_account":%q,"amount":{"value":%d,"currency":"EUR"},"created_at":%q}}}`
	f.unplaced = append(f.unplaced, fmt.Sprintf(form, id, seq, id, kind, at.Format(time.RFC3339Nano), seq,
		a.From, a.To, a.Amount.Value, f.created.Format(time.RFC3339Nano)))
}

// feed tells what has a place. As in a log, an event gets it a moment after its transfer has ended: here,
// after somebody has asked where the feed is now.
func (f *fake) feed(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	from, to := len(f.events), len(f.events)
	f.events, f.unplaced = append(f.events, f.unplaced...), nil
	if c := r.URL.Query().Get("cursor"); c != "" {
		from, _ = strconv.Atoi(c)
		to = min(len(f.events), from+pageSize)
	}
	_, _ = fmt.Fprintf(w, `{"events":[%s],"next_cursor":"%d"}`, strings.Join(f.events[from:to], ","), to)
}

// loaded runs a load to its end.
func loaded(t *testing.T, o Options) Report {
	t.Helper()
	r, err := Run(t.Context(), o)
	require.NoError(t, err)
	return r
}

// broken are the names of claims that do not hold.
func broken(r Report) []string {
	var names []string
	for _, c := range r.Claims {
		if !c.Holds() {
			names = append(names, c.Name)
		}
	}
	return names
}
