package app

import "runtime/debug"

// gcPercent is how much the heap may grow between two collections. The processes keep little and make
// a lot of short-lived memory: at Go's default of 100 collecting took about an eighth of their CPU.
const gcPercent = 400

// TuneGC sets gcPercent, unless the environment has a GOGC of its own.
func TuneGC(gogc string) {
	if gogc == "" {
		debug.SetGCPercent(gcPercent)
	}
}
