// Package containers_test breaks the images of Holdfast as an engine breaks containers: it kills, pauses,
// cuts off and restarts them, and then holds what is stored to what was promised.
//
// It is a module of its own, so that nobody who builds Holdfast gets its libraries, and it knows Holdfast as
// a stranger does: by images, HTTP and SQL. `make check-containers` builds the images and runs it; where
// there is no engine, or no image, it is skipped and says so.
package containers_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/testcontainers/testcontainers-go"
)

const (
	// settleMax is how long transfers may take to settle while something is broken.
	settleMax = 30 * time.Second
	// promiseMax is the time in which a transfer is promised to end, and some more to see it.
	promiseMax = 75 * time.Second
	// readyMax is how long a process may take to be ready, or to be ready again.
	readyMax = 60 * time.Second
	// look is how often a condition is looked at.
	look = 100 * time.Millisecond
	// some is how many transfers are sent before, during and after a fault.
	some = 20
)

func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		// The reaper is an image that would have to be pulled; every test here removes what it made.
		"TESTCONTAINERS_RYUK_DISABLED": "true",
		// The engine publishes on this machine, also where the machine looks like a container.
		"TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
	} {
		if os.Getenv(name) != "" { //nolint:forbidigo // settings of the library
			continue
		}
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run()) //nolint:forbidigo // the end of all tests
}

func TestAKilledWorkersWorkGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.makeRiskSlow()
	before := w.accepts()
	w.kill(w.workers[0])
	during := w.accepts()
	w.settles(before, during)
	w.start(w.workers[0])
	w.ready(w.workers[0])
	w.settles(w.accepts())
	w.holds()
}

func TestAPausedWorkerComesBackAndBreaksNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.makeRiskSlow()
	before := w.accepts()
	w.pause(w.workers[1])
	during := w.accepts()
	w.settles(before, during) // so what it had in hand has been taken from it
	w.unpause(w.workers[1])
	w.settles(w.accepts())
	w.ready(w.workers[1])
	w.holds()
}

func TestAWorkerThatWasCutOffFromPostgresComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.makeRiskSlow()
	before := w.accepts()
	w.cutOff(w.workers[0], w.inside)
	w.settles(before, w.accepts())
	w.connect(w.workers[0], w.inside)
	w.ready(w.workers[0])
	w.settles(w.accepts())
	w.holds()
}

// A worker that reaches Postgres and not the dependencies takes jobs that it cannot do, and each of them
// waits longer after each try. So what is held to here is the promise: an end in time.
func TestAWorkerThatWasCutOffFromTheDependenciesBreaksNoPromise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.accepts()
	w.cutOff(w.workers[0], w.outside)
	w.ends(before, w.accepts())
	w.connect(w.workers[0], w.outside)
	w.ready(w.workers[0])
	w.ends(w.accepts())
	w.holds()
}

func TestARollingRestartLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.makeRiskSlow()
	var all []string
	for _, process := range []testcontainers.Container{w.workers[0], w.api, w.workers[1]} {
		sending := w.acceptsMeanwhile()
		w.stop(process)
		require.Zero(t, w.exitCode(process), "a process that drains ends well")
		w.start(process)
		w.ready(process)
		all = append(all, <-sending...)
	}
	w.settles(all)
	w.holds()
}

// What living workers had in hand when Postgres went away, and could not give back, is taken from them after
// 45 s. What comes later does not wait for it.
func TestWhatPostgresCommittedOutlivesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.makeRiskSlow()
	before := w.accepts()
	sending := w.acceptsMeanwhile()
	w.kill(w.postgres)
	w.start(w.postgres)
	meanwhile := <-sending
	w.settles(w.accepts())
	w.ends(before, meanwhile)
	w.holds()
}
