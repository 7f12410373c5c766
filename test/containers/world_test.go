package containers_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"
	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	// root is where Holdfast's module is.
	root = "../.."
	// versionVariable names the version of the images; with it, an image that is missing is a failure.
	versionVariable = "HOLDFAST_TEST_VERSION"

	databaseURL = "postgres://holdfast:not-secret@postgres:5432/holdfast?sslmode=disable"
	apiPort     = "8080/tcp"
	adminPort   = "8081/tcp"
	simdepPort  = "9090/tcp"

	// stopMax is above the time in which a process drains.
	stopMax = 25 * time.Second
	// invariantsMax bounds the build and the run of the checks.
	invariantsMax = 5 * time.Minute
)

// world is an API, two workers, Postgres and the simulated dependencies, in containers of their own.
type world struct {
	t        *testing.T
	engine   *testcontainers.DockerClient
	inside   *testcontainers.DockerNetwork // where Postgres is
	outside  *testcontainers.DockerNetwork // where the dependencies are
	postgres testcontainers.Container
	simdep   testcontainers.Container
	api      testcontainers.Container
	workers  [2]testcontainers.Container
	demo     demo
	sent     int
}

// demo is what `ctl seed` prints.
type demo struct {
	Key      string   `json:"key"`
	Accounts []string `json:"accounts"`
}

// asked is the version of the images that somebody asked for, or "".
func asked() string {
	return os.Getenv(versionVariable) //nolint:forbidigo // a setting of the tests
}

// image is one of ours.
func image(name string) string { return "holdfast/" + name + ":" + cmp.Or(asked(), "check") }

// postgresImage is the one that compose.yaml names.
func postgresImage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "compose.yaml"))
	require.NoError(t, err)
	found := regexp.MustCompile(`image: (postgres:\S+)`).FindSubmatch(text)
	require.NotNil(t, found, "compose.yaml names no image of Postgres")
	return string(found[1])
}

// newWorld brings everything up, or skips the test where that cannot be.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, engine: engine(t)}
	w.inside, w.outside = w.network(tcnetwork.WithInternal()), w.network()
	w.postgres = w.run(postgresImage(t), "postgres", []*testcontainers.DockerNetwork{w.inside},
		testcontainers.WithEnv(map[string]string{
			"POSTGRES_USER": "holdfast", "POSTGRES_DB": "holdfast", "POSTGRES_PASSWORD_FILE": "/password",
		}),
		testcontainers.WithFiles(testcontainers.ContainerFile{
			Reader: strings.NewReader("not-secret"), ContainerFilePath: "/password", FileMode: 0o444,
		}),
		testcontainers.WithConfigModifier(func(c *container.Config) { c.User = "postgres" }),
		testcontainers.WithWaitStrategyAndDeadline(readyMax, wait.ForExec(
			[]string{"pg_isready", "-q", "-h", "127.0.0.1", "-U", "holdfast", "-d", "holdfast"}).
			WithPollInterval(look).WithStartupTimeout(readyMax)))
	both := []*testcontainers.DockerNetwork{w.inside, w.outside}
	w.simdep = w.run(image("simdep"), "simdep", both[1:], locked(), listens("/knobs", simdepPort, simdepPort))
	w.once("migrate")
	require.NoError(t, json.Unmarshal(w.once("seed"), &w.demo))
	w.api = w.run(image("api"), "api", both, settings(), locked(),
		listens("/readyz", adminPort, adminPort, apiPort))
	for i := range w.workers {
		w.workers[i] = w.run(image("worker"), fmt.Sprintf("worker%d", i+1), both, settings(), locked(),
			listens("/readyz", adminPort, adminPort))
	}
	return w
}

// engine is the container engine of this machine. Without one, or without our images, the test is skipped.
func engine(t *testing.T) *testcontainers.DockerClient {
	t.Helper()
	testcontainers.SkipIfProviderIsNotHealthy(t)
	e, err := testcontainers.NewDockerClientWithOpts(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.Close() })
	for _, name := range []string{
		image("api"), image("worker"), image("ctl"), image("simdep"), postgresImage(t),
	} {
		_, err := e.ImageInspect(t.Context(), name)
		if err != nil && asked() == "" {
			t.Skipf("skipped: there is no image %s; make check-containers builds it", name)
		}
		require.NoError(t, err)
	}
	return e
}

func (w *world) network(how ...tcnetwork.NetworkCustomizer) *testcontainers.DockerNetwork {
	w.t.Helper()
	n, err := tcnetwork.New(w.t.Context(), how...)
	require.NoError(w.t, err)
	w.t.Cleanup(func() {
		// Its containers are removed by cleanups that were added later, and so ran before.
		require.NoError(w.t, n.Remove(context.WithoutCancel(w.t.Context())))
	})
	return n
}

// settings are those of api and worker.
func settings() testcontainers.CustomizeRequestOption {
	return testcontainers.WithEnv(map[string]string{
		"DATABASE_URL": databaseURL, "HOLDFAST_LOG_LEVEL": "warn",
		"HOLDFAST_RISK_URL": "http://simdep:9090", "HOLDFAST_NOTIFY_URL": "http://simdep:9090",
		"HOLDFAST_PAYOUT_URL": "http://simdep:9090",
	})
}

// locked takes from a container what compose.yaml takes from it.
func locked() testcontainers.CustomizeRequestOption {
	return testcontainers.WithHostConfigModifier(func(c *container.HostConfig) {
		c.ReadonlyRootfs = true
		c.CapDrop = []string{"ALL"}
		c.SecurityOpt = []string{"no-new-privileges:true"}
	})
}

// listens publishes ports, and waits until one of them answers.
func listens(path, answers string, ports ...string) testcontainers.CustomizeRequestOption {
	return func(r *testcontainers.GenericContainerRequest) error {
		r.ExposedPorts = ports
		r.WaitingFor = wait.ForHTTP(path).WithPort(answers).WithPollInterval(look).
			WithStartupTimeout(readyMax)
		return nil
	}
}

// run starts a container with a name in its networks. What it logged is shown if the test fails.
func (w *world) run(
	from, name string, networks []*testcontainers.DockerNetwork, how ...testcontainers.ContainerCustomizer,
) testcontainers.Container {
	w.t.Helper()
	for _, n := range networks {
		how = append(how, tcnetwork.WithNetwork([]string{name}, n))
	}
	c, err := testcontainers.Run(w.t.Context(), from, how...)
	testcontainers.CleanupContainer(w.t, c)
	w.t.Cleanup(func() {
		if w.t.Failed() && c != nil {
			w.t.Logf("%s logged:\n%s", name, logOf(context.WithoutCancel(w.t.Context()), c))
		}
	})
	require.NoError(w.t, err, name)
	return c
}

// once runs a command of ctl to its end and returns what it printed.
func (w *world) once(command string) []byte {
	w.t.Helper()
	c := w.run(image("ctl"), command, []*testcontainers.DockerNetwork{w.inside}, settings(), locked(),
		testcontainers.WithCmd(command),
		testcontainers.WithWaitStrategyAndDeadline(readyMax, wait.ForExit().WithExitTimeout(readyMax)))
	require.Zero(w.t, w.exitCode(c), logOf(w.t.Context(), c))
	return []byte(logOf(w.t.Context(), c))
}

func logOf(ctx context.Context, c testcontainers.Container) string {
	lines, err := c.Logs(ctx)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = lines.Close() }()
	text, err := io.ReadAll(lines)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (w *world) exitCode(c testcontainers.Container) int {
	w.t.Helper()
	state, err := c.State(w.t.Context())
	require.NoError(w.t, err)
	require.False(w.t, state.Running, "it runs")
	return state.ExitCode
}

func (w *world) kill(c testcontainers.Container) {
	w.t.Helper()
	_, err := w.engine.ContainerKill(w.t.Context(), c.GetContainerID(),
		client.ContainerKillOptions{Signal: "KILL"})
	require.NoError(w.t, err)
}

// stop ends a container as an engine does that restarts it: by SIGTERM, and it may drain.
func (w *world) stop(c testcontainers.Container) {
	w.t.Helper()
	most := stopMax
	require.NoError(w.t, c.Stop(w.t.Context(), &most))
}

func (w *world) start(c testcontainers.Container) {
	w.t.Helper()
	_, err := w.engine.ContainerStart(w.t.Context(), c.GetContainerID(), client.ContainerStartOptions{})
	require.NoError(w.t, err)
}

func (w *world) pause(c testcontainers.Container) {
	w.t.Helper()
	_, err := w.engine.ContainerPause(w.t.Context(), c.GetContainerID(), client.ContainerPauseOptions{})
	require.NoError(w.t, err)
}

func (w *world) unpause(c testcontainers.Container) {
	w.t.Helper()
	_, err := w.engine.ContainerUnpause(w.t.Context(), c.GetContainerID(), client.ContainerUnpauseOptions{})
	require.NoError(w.t, err)
}

func (w *world) cutOff(c testcontainers.Container, from *testcontainers.DockerNetwork) {
	w.t.Helper()
	_, err := w.engine.NetworkDisconnect(w.t.Context(), from.ID,
		client.NetworkDisconnectOptions{Container: c.GetContainerID()})
	require.NoError(w.t, err)
}

func (w *world) connect(c testcontainers.Container, to *testcontainers.DockerNetwork) {
	w.t.Helper()
	_, err := w.engine.NetworkConnect(w.t.Context(), to.ID, client.NetworkConnectOptions{
		Container: c.GetContainerID(), EndpointConfig: &network.EndpointSettings{},
	})
	require.NoError(w.t, err)
}

// holds checks the invariants of what is stored, by the script that Holdfast prints for psql.
func (w *world) holds() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), invariantsMax)
	defer cancel()
	command := exec.CommandContext(ctx, "go", "run", "./loadtest/cmd/invariants")
	command.Dir = root
	script, err := command.Output()
	require.NoError(w.t, err)
	require.NoError(w.t, w.postgres.CopyToContainer(ctx, script, "/tmp/invariants.sql", 0o444))
	code, reply, err := w.postgres.Exec(ctx,
		[]string{"psql", "-X", "-U", "holdfast", "-d", "holdfast", "-f", "/tmp/invariants.sql"},
		tcexec.Multiplexed())
	require.NoError(w.t, err)
	out, err := io.ReadAll(reply)
	require.NoError(w.t, err)
	require.Zero(w.t, code, string(out))
	require.Regexp(w.t, `^[1-9][0-9]* invariants checked, breaks: 0\s*$`, string(out))
}
