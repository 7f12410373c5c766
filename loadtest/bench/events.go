package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"example.com/holdfast/loadtest/rig"
)

// phaseEvents is the phase in which systems whose events leave in different ways are held beside each other.
const phaseEvents = "events leave, round"

// goalEventShare is how much of the rate without events that leave has to be left with them.
const goalEventShare = 0.85

// goalTracedShare is how much of the rate without traces has to be left with a tenth of them.
const goalTracedShare = 0.95

// EventCost is what one way of events out costs: the medians of the rounds.
type EventCost struct {
	System           string  `json:"system"`
	SettledPerSecond float64 `json:"settled_per_second"`
	CPU              float64 `json:"cpu_us"`
	// Share is the rate as a part of the rate without events that leave.
	Share float64 `json:"share"`
}

// eventKinds are the systems that are held beside each other; the first one is what the others are held to.
func eventKinds() []string { return []string{kindSilent, kindLogged, kindPublished, kindTraced} }

// besideOf is what a system sends something to, or "".
func besideOf(kind string) string {
	switch kind {
	case kindPublished:
		return kindBroker
	case kindTraced:
		return kindCollector
	}
	return ""
}

// settingsFor tell a system where that is.
func settingsFor(kind, addr string) []string {
	if kind == kindPublished {
		return []string{"HOLDFAST_NATS_URL=" + addr}
	}
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + addr, "OTEL_TRACES_SAMPLER=parentbased_traceidratio",
		"OTEL_TRACES_SAMPLER_ARG=0.1",
	}
}

// prepare makes the database of a system what its kind says.
func prepare(ctx context.Context, kind, url string) error {
	if kind != kindSilent {
		return nil
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "DROP TRIGGER events_outbox ON events"); err != nil {
		return fmt.Errorf("silence events: %w", err)
	}
	return nil
}

// events measures the same closed loop, the largest one, on each kind in turn, again and again: what the
// machine does meanwhile meets all of them.
func (r *run) events(ctx context.Context) error {
	callers := slices.Max(r.o.Callers)
	for round := range r.o.EventRounds {
		for _, kind := range eventKinds() {
			err := r.with(ctx, kind, func(s *subject) error {
				if err := s.warm(ctx, callers); err != nil {
					return err
				}
				name := fmt.Sprintf("%s %d, %d callers", phaseEvents, round+1, callers)
				if _, err := s.phase(ctx, name, s.closedLoop(callers)); err != nil {
					return err
				}
				return s.left(ctx)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// serveBroker is the child that others publish to, until in ends.
func serveBroker(in io.Reader, out io.Writer) error {
	b, err := rig.StartBroker()
	if err != nil {
		return err
	}
	return errors.Join(answerParent(in, out, b.URL()), b.Close())
}

// serveCollector is the child that takes traces and throws them away, until in ends.
func serveCollector(ctx context.Context, in io.Reader, out io.Writer) error {
	var listen net.ListenConfig
	socket, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	server := &http.Server{ReadHeaderTimeout: drainMax, Handler: http.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })}
	go func() { _ = server.Serve(socket) }() // until Close
	return errors.Join(answerParent(in, out, "http://"+socket.Addr().String()), server.Close())
}

// left waits until every event is where it has to go, which a phase does not.
func (s *subject) left(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainMax)
	defer cancel()
	for {
		var waits bool
		err := s.referee.Conn.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM outbox)
			    OR EXISTS (SELECT FROM event_sinks s, event_log_head h WHERE s.last < h.last)`).Scan(&waits)
		if err != nil {
			return fmt.Errorf("wait for events to leave: %w", err)
		}
		if !waits {
			return nil
		}
	}
}

// judgeEvents holds each way out to none.
func (r *Report) judgeEvents() {
	silent, logged := 0.0, 0.0
	for _, kind := range eventKinds() {
		rates, costs := r.eventRounds(kind)
		if len(rates) == 0 {
			return
		}
		c := EventCost{System: kind, SettledPerSecond: median(rates), CPU: median(costs)}
		switch kind {
		case kindSilent:
			silent = c.SettledPerSecond
		case kindLogged:
			logged = c.SettledPerSecond
		}
		if silent > 0 {
			c.Share = c.SettledPerSecond / silent
		}
		r.Events = append(r.Events, c)
		if kind == kindLogged {
			r.goal("settled by "+kind+", against events that go nowhere",
				fmt.Sprintf("at least %.0f %%", goalEventShare*100), fmt.Sprintf("%.1f %%", c.Share*100),
				c.Share >= goalEventShare)
		}
		if kind == kindTraced && logged > 0 {
			share := c.SettledPerSecond / logged
			r.goal("settled by "+kind+", against "+kindLogged,
				fmt.Sprintf("at least %.0f %%", goalTracedShare*100), fmt.Sprintf("%.1f %%", share*100),
				share >= goalTracedShare)
		}
	}
}

// eventRounds are the rates and the CPU of a system in each round.
func (r *Report) eventRounds(kind string) ([]float64, []float64) {
	var rates, costs []float64
	for _, p := range r.Phases {
		if p.System == kind && strings.HasPrefix(p.Name, phaseEvents) {
			rates, costs = append(rates, p.SettledPerSecond), append(costs, p.CPU.Sum)
		}
	}
	return rates, costs
}

// median is the middle one; of an even number, the lower of the two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

func (r *Report) eventTable(b *strings.Builder) {
	if len(r.Events) == 0 {
		return
	}
	b.WriteString("What it costs that events leave, and a tenth of traces; medians, without broker and " +
		"collector:\n\n" +
		"| system | settled/s | of the first | CPU per transfer, us |\n|---|--:|--:|--:|\n")
	for _, e := range r.Events {
		fmt.Fprintf(b, "| %s | %.0f | %.1f %% | %.0f |\n", e.System, e.SettledPerSecond, e.Share*100, e.CPU)
	}
	b.WriteByte('\n')
}
