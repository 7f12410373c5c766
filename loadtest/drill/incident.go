package drill

import (
	"context"
	"errors"
	"strconv"
	"time"

	"example.com/holdfast/loadtest/simdep"
)

const (
	// incidentMillis is what a call to the risk service takes in the incident.
	incidentMillis = 3_000
	// incidentRate is a load that the service carries easily when it is well.
	incidentRate = 20
	// noticedMax is how long it may take until the alert fires that tells what users feel.
	noticedMax = time.Minute
	// incidentAlert is that alert.
	incidentAlert = "HoldfastPromiseAge"
	// busyMax is the part of a core that all processes together may use for the CPU to count as green.
	busyMax = 0.5
)

// incident replays what backends do when they fail green: a dependency becomes slow, nothing breaks, and
// accepted transfers wait for minutes. Admission is off, as it was there.
func incident() piece {
	return piece{
		name: "incident", most: 5 * time.Minute,
		about: "the risk service takes 3 s, nobody is refused, all is green: the alert fires in a minute",
		variants: []variant{{
			settings: []string{"HOLDFAST_RISK_TIMEOUT=3750ms", "HOLDFAST_QUEUE_AGE_MAX=1h"},
			play: func(ctx context.Context, s *stage) {
				s.startWorkers(ctx, 2)
				t := s.caller(0)
				seen := s.captures(ctx)
				s.begin(ctx, t.sendsTransfers(incidentRate))
				s.during(ctx, "calm", 30*time.Second)
				s.set(s.risk, func(k *simdep.Knobs) { k.Latency.P50 = incidentMillis })
				fault := s.during(ctx, "the risk service takes 3 s", noticedMax+2*captureEvery)
				s.endCapture(seen)
				s.do(func() error { s.load.end(); return nil })
				s.heal(s.risk)
				s.settleLate(ctx)
				s.green(seen, fault)
				s.noticed(ctx, seen, fault)
			},
		}},
	}
}

// settleLate waits for what the incident held up: much of it is past its promise by then.
func (s *stage) settleLate(ctx context.Context) {
	s.do(func() error {
		_, all, err := s.referee.End(ctx, drainMax)
		if err == nil && !all {
			err = errors.New("what the incident held up does not end")
		}
		return err
	})
	s.claim(none("accepted transfers that did not end", s.unended(ctx)))
	s.catchUp(ctx)
	s.ends(ctx)
}

// green claims that what is usually looked at shows nothing.
func (s *stage) green(seen *capture, fault *phase) {
	if s.err != nil {
		return
	}
	errorsDuring := seen.sum(fault.to, "holdfast_http_request_seconds_count", `status="5`) -
		seen.sum(fault.from, "holdfast_http_request_seconds_count", `status="5`)
	cpu := seen.sum(fault.to, "process_cpu_seconds_total") - seen.sum(fault.from, "process_cpu_seconds_total")
	busy := cpu / fault.to.Sub(fault.from).Seconds()
	s.claim(
		atMost("5xx answers during the fault", errorsDuring, 0),
		atMost("cores that api and workers use during the fault", busy, busyMax),
	)
}

// noticed claims that the alert does not fire in the calm, and fires soon after the fault began.
func (s *stage) noticed(ctx context.Context, seen *capture, fault *phase) {
	before := max(seen.lookAt(fault.from)-1, 0)
	var after time.Duration
	s.do(func() error {
		early, err := seen.fires(ctx, rulesFolder, incidentAlert, before)
		if errors.Is(err, errNoPromtool) {
			s.figure("the alert", "not evaluated: %v", err)
			return nil
		}
		if err != nil {
			return err
		}
		s.claim(shown("the alert is silent in the calm", !early, strconv.FormatBool(!early)))
		for look := before; look < seen.looks; look++ {
			fires, err := seen.fires(ctx, rulesFolder, incidentAlert, look)
			if err != nil {
				return err
			}
			if fires {
				after = seen.at[look].Sub(fault.from)
				s.claim(atMost("seconds from the fault to the alert", after.Seconds(), noticedMax.Seconds()))
				return nil
			}
		}
		s.claim(shown("the alert fires", false, "never"))
		return nil
	})
}
