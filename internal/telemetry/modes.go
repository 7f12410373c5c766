package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Mode is the mode that a process acts by, and what it knows of how it came to be.
type Mode struct {
	// Mode is in force, Level is what the controller judges.
	Mode, Level string
	// Policy is the hash of the policy of this process, and Thresholds are its own, by signal and level.
	Policy     string
	Thresholds map[[2]string]float64
	// Signals are those of the latest sample. What is not known is not in it.
	Signals map[string]float64
	// Blind is for how many seconds the mode could not be read.
	Blind float64
}

// levelNames are what a controller may judge, from the best to the worst; modeNames are all modes.
func levelNames() []string { return []string{"normal", "constrained", "protection"} }

func modeNames() []string { return append(levelNames(), "frozen") }

func modeLabel() Label { return of("mode", modeNames()...) }

func signalLabel() Label {
	return of("signal", "amplification", "failure_ratio", "order_age_seconds", "pool_wait_seconds",
		"saturation", "transfer_age_seconds")
}

// The makers of a switch.
const (
	ByController = "controller"
	ByOperator   = "operator"
)

// modeMetrics count what became of the mode.
type modeMetrics struct{ switches *prometheus.CounterVec }

func newModeMetrics(c *catalogue) modeMetrics {
	return modeMetrics{switches: c.counters("mode_switches_total",
		"Switches of the mode that this process followed, by the mode that it led to and by who made it. "+
			"Every process counts them, so take the max.",
		modeLabel(), of("by", ByController, ByOperator))}
}

// ModeSwitched counts a switch that this process follows.
func (m *modeMetrics) ModeSwitched(to, by string) {
	m.switches.WithLabelValues(to, by).Inc()
}

// modeGauges show the mode of a process.
type modeGauges struct {
	mode, level, policy, threshold, signal, blind *prometheus.Desc
}

func newModeGauges(c *catalogue) modeGauges {
	return modeGauges{
		mode: c.watch("mode", "1 for the mode that this process acts by, 0 for the others.", modeLabel()),
		level: c.watch("mode_level",
			"1 for the level that the controller judges, 0 for the others. It is the mode unless an "+
				"operator has overridden that.", of("level", levelNames()...)),
		policy: c.watch("mode_policy_info",
			"1, with the hash of the policy that this process acts by.", one("policy")),
		threshold: c.watch("mode_threshold",
			"From where a signal speaks for a level, by the policy of this process; absent where it does "+
				"not.",
			signalLabel(), of("level", levelNames()[1:]...)),
		signal: c.watch("mode_signal",
			"What the controller saw in its latest sample, in the unit of the signal's name; absent if "+
				"there is none of the last minute. All processes show the same.", signalLabel()),
		blind: c.watch("mode_blind_seconds",
			"For how long this process could not read the mode. It keeps the one that it has."),
	}
}

func (g modeGauges) all() []*prometheus.Desc {
	return []*prometheus.Desc{g.mode, g.level, g.policy, g.threshold, g.signal, g.blind}
}

// collect shows one mode.
func (g modeGauges) collect(m Mode, gauge func(*prometheus.Desc, float64, ...string)) {
	for _, name := range modeNames() {
		gauge(g.mode, oneIf(name == m.Mode), name)
	}
	for _, name := range levelNames() {
		gauge(g.level, oneIf(name == m.Level), name)
	}
	gauge(g.policy, 1, m.Policy)
	for labels, value := range m.Thresholds {
		gauge(g.threshold, value, labels[:]...)
	}
	for signal, value := range m.Signals {
		gauge(g.signal, value, signal)
	}
	gauge(g.blind, m.Blind)
}

// WatchMode asks for the mode of this process at every scrape, for as long as the metrics live. It has to
// answer from memory.
func (m *Metrics) WatchMode(current func() Mode) {
	m.watched.mu.Lock()
	defer m.watched.mu.Unlock()
	m.watched.mode = current
}
