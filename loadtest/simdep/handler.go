package simdep

import (
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	effectKeyHeader = "Idempotency-Key"
	effectsPath     = "/v1/effects/"

	maxKeyBytes = 255
)

// reply is what goes back, unless its fate is that nothing does.
type reply struct {
	status int
	body   []byte
	fate   fate
}

// problem is the body of every refusal.
type problem struct {
	Errors []string `json:"errors"`
}

func refuse(status int, reasons ...string) reply { return write(status, problem{Errors: reasons}) }

func conflict() reply {
	return refuse(http.StatusConflict, "effect key was used for another request")
}

func write(status int, value any) reply {
	body, err := json.Marshal(value)
	if err != nil { // only ours are written, and they have no unwritable fields
		return reply{status: http.StatusInternalServerError, body: []byte(`{"errors":["reply"]}`)}
	}
	return reply{status: status, body: body}
}

// handle is the whole service. Work delays effects until it is closed, which is later than the
// caller's leaving where an effect is to outlive its caller.
func (s *Server) handle(work <-chan struct{}, r *http.Request, body []byte) reply {
	result := s.route(work, r, body)
	if s.log != nil {
		s.log.LogAttrs(r.Context(), slog.LevelDebug, "request",
			slog.String("method", r.Method), slog.String("path", r.URL.Path),
			slog.String("effect_key", r.Header.Get(effectKeyHeader)),
			slog.Int("status", result.status), slog.Bool("answered", result.fate == answered))
	}
	return result
}

func (s *Server) route(work <-chan struct{}, r *http.Request, body []byte) reply {
	path := r.URL.Path
	switch {
	case r.Method == http.MethodPost && path == "/v1/screenings":
		return s.effect(work, r, call{kind: "screening", body: body, answer: screen})
	case r.Method == http.MethodPost && path == "/v1/notifications":
		return s.effect(work, r, call{kind: "notification", body: body, answer: notify})
	case path == payoutsPath || strings.HasPrefix(path, payoutsPath+"/"):
		return s.payouts(work, r, body)
	case r.Method == http.MethodGet && strings.HasPrefix(path, effectsPath):
		return s.lookup(work, r, strings.TrimPrefix(path, effectsPath))
	case r.Method == http.MethodGet && path == "/journal":
		keys, _ := strconv.Atoi(r.URL.Query().Get("keys")) // not a number lists none
		return write(http.StatusOK, s.snapshot(max(keys, 0)))
	case r.Method == http.MethodGet && path == "/knobs":
		return write(http.StatusOK, s.Knobs())
	case r.Method == http.MethodPut && path == "/knobs":
		return s.putKnobs(body)
	}
	return refuseRoute(r)
}

func refuseRoute(r *http.Request) reply {
	return refuse(http.StatusNotFound, r.Method+" "+r.URL.Path+" is not served here")
}

func (s *Server) putKnobs(body []byte) reply {
	knobs, err := ParseKnobs(body)
	if err != nil {
		return refuse(http.StatusBadRequest, strings.Split(err.Error(), "\n")...)
	}
	s.turn(&knobs)
	return write(http.StatusOK, knobs)
}

// ParseKnobs reads knobs from JSON. What is left out is zero; what is unknown is refused.
func ParseKnobs(text []byte) (Knobs, error) {
	var knobs Knobs
	if err := json.Unmarshal(text, &knobs, json.RejectUnknownMembers(true)); err != nil {
		return Knobs{}, fmt.Errorf("knobs: %w", err)
	}
	if err := knobs.Validate(); err != nil {
		return Knobs{}, err
	}
	return knobs, nil
}

// call is a request for an effect; answer computes its reply and touches nothing.
type call struct {
	kind   string
	body   []byte
	answer func(knobs Knobs, key string, body []byte) reply
}

// effect is one call for an effect: counted, served as its fate wants it, done.
func (s *Server) effect(work <-chan struct{}, r *http.Request, c call) reply {
	s.journal.enter()
	defer s.journal.leave()
	key, ok := effectKey(r)
	if !ok {
		return refuseKey()
	}
	knobs := s.Knobs()
	w := way{work: work, draw: knobs.draw(key, s.journal.called(key))}
	return s.serve(r.Context(), w, func() reply {
		result := c.answer(knobs, key, c.body)
		if result.status >= http.StatusBadRequest {
			return result
		}
		if w.draw.twice {
			s.journal.called(key)
			s.journal.effect(key, c.kind, c.body, result, knobs.IgnoreKeys)
		}
		return s.journal.effect(key, c.kind, c.body, result, knobs.IgnoreKeys)
	})
}

// effectKey reads the key that every effect has to have.
func effectKey(r *http.Request) (string, bool) {
	key := r.Header.Get(effectKeyHeader)
	return key, key != "" && len(key) <= maxKeyBytes
}

func refuseKey() reply {
	return refuse(http.StatusBadRequest, effectKeyHeader+" must have 1 to 255 bytes")
}

// lookup answers what became of a key.
func (s *Server) lookup(work <-chan struct{}, r *http.Request, key string) reply {
	return s.question(work, r, key, func() reply {
		entry, ok := s.journal.entry(key)
		if !ok || entry.Effects == 0 {
			return refuse(http.StatusNotFound, "no effect under this key")
		}
		return write(http.StatusOK, entry)
	})
}

// question serves a call that changes nothing.
func (s *Server) question(work <-chan struct{}, r *http.Request, key string, answer func() reply) reply {
	s.journal.enter()
	defer s.journal.leave()
	w := way{work: work, draw: s.Knobs().draw(key, s.journal.lookedUp()), question: true}
	return s.serve(r.Context(), w, answer)
}

// screen reads the amount alone: the rules know nothing else.
func screen(knobs Knobs, key string, body []byte) reply {
	var request struct {
		AmountValue int64 `json:"amount_value"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return refuse(http.StatusBadRequest, err.Error())
	}
	if request.AmountValue <= 0 {
		return refuse(http.StatusBadRequest, "amount_value must be positive")
	}
	outcome, reason := knobs.decide(request.AmountValue)
	return write(http.StatusOK, struct {
		Outcome   Decision `json:"outcome"`
		Reason    string   `json:"reason"`
		Reference string   `json:"reference"`
	}{outcome, reason, reference("scr", key)})
}

func notify(_ Knobs, key string, body []byte) reply {
	if !jsontext.Value(body).IsValid() {
		return refuse(http.StatusBadRequest, "body is not JSON")
	}
	return write(http.StatusAccepted, struct {
		Reference string `json:"reference"`
	}{reference("ntf", key)})
}

// reference is the dependency's own name for an effect.
func reference(prefix, key string) string {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(key))
	return prefix + "_" + strconv.FormatUint(hash.Sum64(), 36)
}
