// Command bench measures Holdfast beside a naive path and PostgreSQL's own commit rate, on a private
// PostgreSQL. The report goes to stdout as Markdown, progress to stderr.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/loadtest/bench"
)

const description = `Measure accepts, transfers from accepted to settled beside a naive path, and orders from
placed to confirmed, on a private PostgreSQL of this machine, with simulated dependencies of 5 ms.`

// generatorProcs lets the load generator run on one core at a time: on a machine that it shares with what
// it measures, a second one would mostly look for work.
const generatorProcs = 1

type cli struct {
	Run   runCmd   `cmd:"" default:"withargs" help:"Measure and print the report."`
	Serve serveCmd `cmd:"" hidden:"" help:"Be the system under test (started by run)."`
}

type runCmd struct {
	Quick     bool          `help:"Fewer and shorter phases, to see that everything runs."`
	JSON      string        `help:"Also write the report to this file." placeholder:"FILE" type:"path"`
	Phase     time.Duration `help:"How long a phase measures."`
	Ramp      time.Duration `help:"How long a phase loads before it measures."`
	Callers   []int         `help:"Sizes of the closed loops, the goals speak of 64."`
	Rates     []float64     `help:"Open loops' rates; without it, around what the closed loops settled."`
	LowRate   float64       `help:"Rate of the phase for the least latency."`
	HTTPDeps  bool          `name:"http-deps" help:"Dependencies as HTTP servers of the generator's process."`
	Profile   string        `help:"Write a CPU profile of Holdfast's process." placeholder:"FILE" type:"path"`
	Impatient bool          `help:"Refused callers ask again at once, not when they were told."`
	Skip      []string      `help:"Leave out: ${enum}." enum:"pgbench,naive,holdfast,orders,events"`
	Set       []string      `help:"A setting of the system under test, as NAME=value." sep:"none"`
}

type serveCmd struct{}

func main() {
	var c cli
	k := kong.Parse(&c, kong.Name("bench"), kong.Description(description))
	var err error
	switch k.Command() {
	case "serve":
		// Ctrl-C reaches the whole group: the parent decides when the child ends.
		signal.Ignore(os.Interrupt)
		//nolint:forbidigo // as in the commands that are measured
		app.TuneGC(os.Getenv("GOGC"))
		//nolint:forbidigo // main is where contexts come from
		err = bench.Serve(context.Background(), os.Environ(), os.Stdin, os.Stdout)
	default:
		//nolint:forbidigo // main is where contexts come from
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = c.Run.run(ctx, os.Stdout)
		stop()
	}
	k.FatalIfErrorf(err)
}

// run prints what was measured, also when the run ended early.
func (c *runCmd) run(ctx context.Context, out io.Writer) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(generatorProcs)
	report, err := bench.Run(ctx, o)
	err = errors.Join(err, report.Markdown(out))
	if c.JSON != "" {
		err = errors.Join(err, writeJSON(c.JSON, report))
	}
	return err
}

func (c *runCmd) options() (bench.Options, error) {
	o := bench.Full()
	if c.Quick {
		o = bench.Quick()
	}
	program, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("find this program: %w", err)
	}
	o.Command, o.Environ = []string{program, "serve"}, c.Set
	//nolint:forbidigo // a command reads the clock and the environment
	o.Now, o.Env, o.Progress = time.Now, os.Getenv, os.Stderr
	o.Rates, o.HTTPDependencies, o.Impatient, o.Profile = c.Rates, c.HTTPDeps, c.Impatient, c.Profile
	if c.Phase > 0 {
		o.Phase = c.Phase
	}
	if c.Ramp > 0 {
		o.Ramp = c.Ramp
	}
	if c.LowRate > 0 {
		o.LowRate = c.LowRate
	}
	if len(c.Callers) > 0 {
		o.Callers = c.Callers
	}
	for _, part := range c.Skip {
		o.SkipPgbench = o.SkipPgbench || part == "pgbench"
		o.SkipNaive = o.SkipNaive || part == "naive"
		o.SkipHoldfast = o.SkipHoldfast || part == "holdfast"
		o.SkipOrders = o.SkipOrders || part == "orders"
		o.SkipEvents = o.SkipEvents || part == "events"
	}
	return o, nil
}

func writeJSON(path string, report bench.Report) error {
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
