package bulkhead

import "time"

const (
	percent = 100

	// busyPercent is the demand from which on a bulkhead is full, in percent of its effective limit.
	busyPercent = 90

	// demandWindow is how long the demand is summed up before it is judged, and busyWindowPercent the
	// share of that time for which it has to be full. Without windows the moment between one caller's
	// departure and the next one's arrival would end every saturation, or, if such dips did not count,
	// a pool that is half empty would look full.
	demandWindow      = time.Second
	busyWindowPercent = 90
)

// meter tells since when the demand has been about as large as the limit. It is told at every change
// of either, so that nobody has to sample. The zero meter starts at its first note.
type meter struct {
	full  bool
	last  time.Time     // of the last note
	start time.Time     // of the window
	busy  time.Duration // within the window
	since time.Time     // start of the first of the full windows up to now; zero if the last was not
}

// note sums up the time since the last note, and says what holds from now on.
func (m *meter) note(now time.Time, demand, limit int) {
	if m.full {
		m.busy += now.Sub(m.last)
	}
	if length := now.Sub(m.start); length >= demandWindow {
		switch full := m.busy*percent >= length*busyWindowPercent; {
		case !full:
			m.since = time.Time{}
		case m.since.IsZero():
			m.since = m.start
		}
		m.start, m.busy = now, 0
	}
	m.last = now
	m.full = demand > 0 && demand*percent >= limit*busyPercent
}
