//go:build faults

package fault

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Enabled tells whether this build can be armed from outside. Only test builds may be.
const Enabled = true

// environmentVariable arms points from outside: "name@hit=action", several parted by commas.
const environmentVariable = "HOLDFAST_FAULT"

// maxDelay bounds the delay action.
const maxDelay = time.Minute

// armed is one point with the hit at which it acts, once.
type armed struct {
	hit    int
	seen   int
	action string
	delay  time.Duration
}

type registry struct {
	mu     sync.Mutex
	points map[string]*armed
}

// process is the state that a crash test arms from outside the program, hence global.
var process = sync.OnceValue(func() *registry { //nolint:gochecknoglobals // see above
	r := &registry{points: map[string]*armed{}}
	//nolint:forbidigo // a crash test starts the process and has no other way in
	for spec := range strings.SplitSeq(os.Getenv(environmentVariable), ",") {
		if spec == "" {
			continue
		}
		if err := r.arm(spec); err != nil {
			// A crash test that arms nothing would prove nothing.
			panic(environmentVariable + ": " + err.Error())
		}
	}
	return r
})

// arm reads "name@hit=action".
func (r *registry) arm(spec string) error {
	place, action, ok := strings.Cut(spec, "=")
	name, hitText, ok2 := strings.Cut(place, "@")
	hit, err := strconv.Atoi(hitText)
	if !ok || !ok2 || name == "" || err != nil || hit < 1 {
		return fmt.Errorf("fault %q: want name@hit=action with hit 1 or more", spec)
	}
	a := &armed{hit: hit, action: action}
	if text, isDelay := strings.CutPrefix(action, "delay:"); isDelay {
		a.action = "delay"
		a.delay, err = time.ParseDuration(text)
		if err != nil || a.delay <= 0 || a.delay > maxDelay {
			return fmt.Errorf("fault %q: want a delay above 0 and up to %v", spec, maxDelay)
		}
	}
	switch a.action {
	case "kill", "stop", "error", "delay":
	default:
		return fmt.Errorf("fault %q: want kill, stop, error or delay:<duration>", spec)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.points[name] = a
	return nil
}

// due returns the armed point if this is its hit.
func (r *registry) due(name string) (armed, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.points[name]
	if !ok {
		return armed{}, false
	}
	a.seen++
	return *a, a.seen == a.hit
}

// tester is the part of *testing.T that Set needs.
type tester interface {
	Helper()
	Cleanup(f func())
	Fatalf(format string, args ...any)
}

// Set arms a point of this process for the length of one test; action is as in HOLDFAST_FAULT:
// kill, stop, error or delay:<duration>. Points are process-wide, so tests use names of their own.
func Set(t tester, name string, hit int, action string) {
	t.Helper()
	r := process()
	if err := r.arm(fmt.Sprintf("%s@%d=%s", name, hit, action)); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.points, name)
	})
}

func point(ctx context.Context, name string) error {
	a, due := process().due(name)
	if !due {
		return nil
	}
	switch a.action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing after the point runs, however long the signal takes
	case "stop":
		return stop()
	case "error":
		return fmt.Errorf("fault point %s hit %d: %w", name, a.hit, ErrInjected)
	case "delay":
		return delay(ctx, a.delay)
	}
	return nil
}

// stop freezes the process and returns after somebody has continued it, as a paused machine does.
func stop() error {
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop process: %w", err)
	}
	<-continued
	return nil
}

func delay(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return nil // the caller's next step sees its ended context by itself
	}
}
