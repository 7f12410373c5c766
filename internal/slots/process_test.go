package slots_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/bulkhead"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/slots"
)

// What the test tells its other processes: the database, and the server that they call. The first of them
// also says what they are.
const (
	memberDatabase = "HOLDFAST_TEST_MEMBER_DATABASE"
	memberTarget   = "HOLDFAST_TEST_MEMBER_TARGET"
)

const (
	// callers are more in each process than there are places for all.
	callers = 12
	// realCallTimeout is above all that a call of the test takes on a busy machine.
	realCallTimeout = 3 * time.Second
)

// TestMemberProcess is no test: it is the process that the test below runs several times. It calls as often
// as its places allow until its input ends, that is, not longer than the test.
func TestMemberProcess(t *testing.T) {
	t.Parallel()
	url := os.Getenv(memberDatabase) //nolint:forbidigo // how the test tells its processes what they are
	if url == "" {
		t.Skip("runs only as another process of a test")
	}
	target := os.Getenv(memberTarget) //nolint:forbidigo // as above
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	now := time.Now //nolint:forbidigo // a real process has the real clock
	places := bulkhead.New(dependency, 0, now)
	lease := &slots.Lease{
		Dependency: dependency, Holder: strconv.Itoa(os.Getpid()), Default: 8, CallTimeout: realCallTimeout,
		Pool: pool, Log: slog.New(slog.DiscardHandler), Now: now,
		InUse: func() int { return places.Stats().InFlight }, Apply: places.SetLimit,
	}
	require.NoError(t, lease.Start(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	for range callers {
		group.Go(func() {
			for ctx.Err() == nil {
				callOnce(ctx, client, places, target)
			}
		})
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	require.NoError(t, err)
	cancel()
	group.Wait()
	require.NoError(t, lease.Stop(context.WithoutCancel(ctx)))
}

// callOnce is a call as outbound makes it. Its failures are the server's to judge.
func callOnce(ctx context.Context, client *http.Client, places *bulkhead.Bulkhead, target string) {
	place, err := places.Acquire(ctx, 50*time.Millisecond, bulkhead.LaneFirst)
	if err != nil {
		return
	}
	defer place.Release()
	ctx, cancel := context.WithTimeout(ctx, realCallTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, http.NoBody)
	if err != nil {
		return
	}
	req.Header.Set("Process", strconv.Itoa(os.Getpid()))
	reply, err := client.Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, reply.Body)
	_ = reply.Body.Close()
}

// counter is the dependency: it counts the calls that it works on at once.
type counter struct {
	mu    sync.Mutex
	by    map[string]int // in flight by process
	now   int
	peak  int
	calls int
	// gated calls wait until the gate is closed; the process whose calls they are.
	gated string
	gate  chan struct{}
}

// ServeHTTP takes some milliseconds. A call has left the count before its caller hears of it.
func (c *counter) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	process := r.Header.Get("Process")
	c.mu.Lock()
	c.now++
	c.calls++
	c.by[process]++
	c.peak = max(c.peak, c.now)
	var gate chan struct{}
	if process == c.gated {
		gate = c.gate
	}
	c.mu.Unlock()
	if gate != nil {
		<-gate
	}
	select {
	case <-time.After(3 * time.Millisecond):
	case <-r.Context().Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
	c.by[process]--
}

// holds waits until the calls of a process wait at the gate, as many as it has places for.
func (c *counter) holds(t *testing.T, process string, places int) {
	t.Helper()
	c.mu.Lock()
	c.gated, c.gate = process, make(chan struct{})
	c.mu.Unlock()
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.by[process] == places
	}, waitMax, time.Millisecond)
}

func (c *counter) lets() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.gate)
	c.gated = ""
}

// startMember runs one more process.
func startMember(t *testing.T, db, target string) *os.Process {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestMemberProcess$", "-test.timeout=2m")
	child.Env = append(os.Environ(), memberDatabase+"="+db, memberTarget+"="+target)
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	return child.Process
}

// TestRealProcessesNeverCallMoreThanTheLimitAtOnce kills one of three and stops another in the middle of
// its calls for longer than its lease.
func TestRealProcessesNeverCallMoreThanTheLimitAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	seen := &counter{by: map[string]int{}}
	server := httptest.NewServer(seen)
	t.Cleanup(server.Close)
	var children []*os.Process
	for range 3 {
		children = append(children, startMember(t, db.URL, server.URL))
	}
	shared := func(want ...int) func() bool {
		return func() bool {
			limits, err := slots.Limits(t.Context(), db.Pool)
			require.NoError(t, err)
			var held []int
			for _, l := range limits {
				for _, h := range l.Holdings {
					held = append(held, h.Slots)
				}
			}
			return slices.Equal(want, held) // in order of the names, so each has its share
		}
	}
	require.Eventually(t, shared(3, 3, 2), waitMax, 10*time.Millisecond)

	limits, err := slots.Limits(t.Context(), db.Pool)
	require.NoError(t, err)
	stopped := strconv.Itoa(children[1].Pid)
	at := slices.IndexFunc(limits[0].Holdings, func(h slots.Holding) bool { return h.Holder == stopped })
	require.NoError(t, children[0].Kill())
	seen.holds(t, stopped, limits[0].Holdings[at].Slots)
	require.NoError(t, children[1].Signal(syscall.SIGSTOP))
	seen.lets()
	require.Eventually(t, shared(8), waitMax, 10*time.Millisecond)
	require.NoError(t, children[1].Signal(syscall.SIGCONT))
	require.Eventually(t, shared(4, 4), waitMax, 10*time.Millisecond)

	seen.mu.Lock()
	defer seen.mu.Unlock()
	t.Logf("%d calls, at most %d at once", seen.calls, seen.peak)
	require.Equal(t, 8, seen.peak)
}
