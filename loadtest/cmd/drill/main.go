// Command drill plays the fault scenarios of Holdfast on a private PostgreSQL of this machine, and holds what
// it measures to their claims: a table to stdout, progress to stderr, exit code 1 if a claim fails.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/loadtest/drill"
	"example.com/holdfast/loadtest/rig"
	"example.com/holdfast/loadtest/scenario"
)

const description = `Play fault scenarios with real processes, a private PostgreSQL and simulated
dependencies, and say which claims hold. Without names the scenarios of the repository's files are played, in
less than ten minutes.`

type cli struct {
	List  listCmd  `cmd:"" help:"List the scenarios."`
	Show  showCmd  `cmd:"" help:"Print the file of a scenario, to start one of your own from."`
	Run   runCmd   `cmd:"" help:"Play scenarios and print the verdicts."`
	Serve serveCmd `cmd:"" hidden:"" help:"Be a process of a scenario (started by run)."`
}

type listCmd struct{}

type showCmd struct {
	Name string `arg:"" help:"A scenario of the list that is a file."`
}

type runCmd struct {
	Names    []string `arg:"" optional:"" help:"Scenarios of the list."`
	File     []string `help:"Play the scenario of this file, too." placeholder:"FILE" type:"existingfile"`
	Fast     bool     `help:"Play the fast ones, in a minute."`
	All      bool     `help:"Play the long ones besides, in three quarters of an hour."`
	Broken   bool     `help:"Switch the promise of each off, in a build of its own: its claims have to fail."`
	JSON     string   `help:"Also write the report to this file." placeholder:"FILE" type:"path"`
	MD       string   `help:"Also write the table to this file." placeholder:"FILE" type:"path"`
	Scale    float64  `help:"Shorten and thin the scenarios: 0.1 is a tenth." default:"1"`
	Volatile bool     `help:"Run PostgreSQL without fsync: for a slow disk."`
	//nolint:lll // help texts are struct tags
	Mode string   `help:"Pin this mode for the load: normal, constrained, protection or frozen." enum:",normal,constrained,protection,frozen" default:""`
	Set  []string `help:"A setting of the processes, as NAME=value." sep:"none"`
	Logs string   `help:"Write what the processes log to this file." placeholder:"FILE" type:"path"`
}

type serveCmd struct{}

var errClaims = errors.New("a claim does not hold")

func main() {
	var c cli
	k := kong.Parse(&c, kong.Name("drill"), kong.Description(description))
	var err error
	switch k.Command() {
	case "serve":
		// Ctrl-C reaches the whole group: the parent decides when the child ends.
		signal.Ignore(os.Interrupt)
		//nolint:forbidigo // as in the commands that are drilled
		app.TuneGC(os.Getenv("GOGC"))
		//nolint:forbidigo // main is where contexts come from
		err = rig.Serve(context.Background(), os.Environ(), os.Stdin, os.Stdout)
	case "list":
		err = drill.List(os.Stdout)
	case "show <name>":
		err = scenario.Show(os.Stdout, c.Show.Name)
	default:
		//nolint:forbidigo // main is where contexts come from
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = c.Run.run(ctx, os.Stdout)
		stop()
	}
	k.FatalIfErrorf(err)
}

var errNames = errors.New("name scenarios of the list, or say --fast or --all, and not both")

// run prints what was measured, also when the run ended early.
func (c *runCmd) run(ctx context.Context, out io.Writer) error {
	choice := drill.Choice{Names: c.Names, Files: c.File, Fast: c.Fast, Long: c.All}
	if c.Fast && c.All || len(c.Names)+len(c.File) > 0 && (c.Fast || c.All) {
		return errNames
	}
	o, done, err := c.options()
	if err != nil {
		return err
	}
	report, err := drill.Run(ctx, o, choice)
	if len(report.Outcomes) == 0 { // there is nothing to tell
		return errors.Join(err, done())
	}
	if err == nil && !report.Holds() {
		err = errClaims
	}
	return errors.Join(err, c.write(report, out), done())
}

// options returns also what closes the file of the logs.
func (c *runCmd) options() (drill.Options, func() error, error) {
	done := func() error { return nil }
	program, err := os.Executable()
	if err != nil {
		return drill.Options{}, done, fmt.Errorf("find this program: %w", err)
	}
	o := drill.Options{
		Command: []string{program, "serve"}, Environ: c.Set, Progress: os.Stderr, Logs: os.Stderr,
		Scale: c.Scale, Volatile: c.Volatile, Mode: mode.Mode(c.Mode), Broken: c.Broken, Root: ".",
		//nolint:forbidigo // a command reads the clock and the environment
		Now: time.Now, Env: os.Getenv,
	}
	if c.Logs == "" {
		return o, done, nil
	}
	logs, err := os.Create(c.Logs)
	if err != nil {
		return o, done, fmt.Errorf("write logs: %w", err)
	}
	o.Logs = logs
	return o, logs.Close, nil
}

func (c *runCmd) write(report drill.Report, out io.Writer) error {
	err := report.Markdown(out)
	if c.MD != "" {
		err = errors.Join(err, writeFile(c.MD, report.Markdown))
	}
	if c.JSON != "" {
		err = errors.Join(err, writeFile(c.JSON, func(w io.Writer) error {
			encoder := json.NewEncoder(w)
			encoder.SetIndent("", "  ")
			return encoder.Encode(report)
		}))
	}
	return err
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path) //nolint:gosec // the one who drills names the file
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
