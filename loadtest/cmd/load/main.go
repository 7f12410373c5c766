// Command load sends a running Holdfast an open loop of requests, and says how fast it was and whether it
// kept its promises: a table to stdout, progress to stderr, a report with pictures into a folder, exit code 1
// if a claim does not hold.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/loadtest/load"
	"example.com/holdfast/loadtest/rig"
)

const description = `Load a running Holdfast over HTTP, without waiting for its answers, and check afterwards
that all that was accepted ended once, in time, with the money where it belongs.

  load run --private                                  a whole system on a private PostgreSQL, for a minute
  load run --url http://127.0.0.1:8080 --key hf_…     one that runs
  load run --url … --keys-of load --database …        the same, with keys that it makes in its database
  load compare before after                           two reports`

type cli struct {
	Run     runCmd     `cmd:"" help:"Load and print the report."`
	Compare compareCmd `cmd:"" help:"Hold one report to another; exit code 1 if a figure is worse."`
	List    listCmd    `cmd:"" help:"List mixes and profiles."`
	Serve   serveCmd   `cmd:"" hidden:"" help:"Be a process of a private system (started by run)."`
}

//nolint:lll // help texts are struct tags
type runCmd struct {
	URL     string   `help:"Where the public API is." env:"HOLDFAST_LOAD_URL" placeholder:"http://127.0.0.1:8080"`
	Key     []string `help:"API key, as KEY or CLASS=KEY; several keys, also of several tenants, share the load." env:"HOLDFAST_LOAD_KEYS" placeholder:"[CLASS=]KEY"`
	KeysOf  string   `help:"Make keys of this tenant in --database for the time of the run, one of each class; a tenant that is not there is made, with money." env:"HOLDFAST_LOAD_KEYS_OF" placeholder:"TENANT"`
	Private bool     `help:"Start a whole system on a private PostgreSQL and load that."`

	Mix      string        `help:"What to send; see list." default:"mixed"`
	Profile  string        `help:"How the rate changes; see list." default:"steady"`
	Rate     float64       `help:"Requests per second (at its most, where the profile changes it)." default:"200"`
	Duration time.Duration `help:"How long; by default what the profile says." placeholder:"45s"`
	Requests int           `help:"Most requests of the run." default:"${requests}"`
	Arrivals string        `help:"even, or poisson as of independent clients." enum:"even,poisson" default:"even"`
	Seed     uint64        `help:"The same seed sends the same requests." default:"1"`
	Callers  int           `help:"Most requests that wait for answers at once." default:"512"`
	Accounts int           `help:"Accounts of each tenant that the load uses." default:"50"`
	Fund     int64         `help:"Minor units that each of them is filled up to." default:"20000"`
	Currency string        `help:"Currency of the load." default:"EUR"`
	Funder   []string      `help:"Account that the money comes from; by default the richest." placeholder:"ID"`
	Drain    time.Duration `help:"How long what was accepted may take to end after the load." default:"90s"`
	Database string        `help:"Also check the SQL invariants of this database." env:"HOLDFAST_LOAD_DATABASE" placeholder:"URL"`
	Anywhere bool          `help:"Allow a target that is neither this machine nor in a private network."`
	Out      string        `help:"Folder of the report." default:"reports/load" type:"path"`

	DatabaseFile kong.FileContentFlag `help:"The URL of --database, read from a file." env:"HOLDFAST_LOAD_DATABASE_FILE" placeholder:"FILE"`

	Workers  int      `help:"Worker processes of a private system." default:"2"`
	Tenants  int      `help:"Tenants of a private system, each with a key of every class." default:"2"`
	Volatile bool     `help:"Run a private PostgreSQL without fsync: for a slow disk."`
	Set      []string `help:"A setting of a private system, as NAME=value." sep:"none"`
	Logs     string   `help:"Write what a private system logs to this file." placeholder:"FILE" type:"path"`
}

type compareCmd struct {
	A     string  `arg:"" help:"Report, or its folder." type:"path"`
	B     string  `arg:"" help:"Report, or its folder." type:"path"`
	Worse float64 `help:"How many percent a figure of B may be worse." default:"20"`
}

type (
	listCmd  struct{}
	serveCmd struct{}
)

var (
	errClaims  = errors.New("a claim does not hold")
	errWorse   = errors.New("report B is worse")
	errTarget  = errors.New("say what to load: --url with --key or with --keys-of, or --private")
	errKeysOf  = errors.New("--keys-of makes keys in --database: say which it is")
	errClasses = errors.New("a class is critical, standard or sheddable")
)

func main() {
	var c cli
	k := kong.Parse(&c, kong.Name("load"), kong.Description(description),
		kong.Vars{"requests": strconv.Itoa(load.RequestsMax)})
	var err error
	switch k.Command() {
	case "serve":
		// Ctrl-C reaches the whole group: the parent decides when the child ends.
		signal.Ignore(os.Interrupt)
		//nolint:forbidigo // as in the commands that are loaded
		app.TuneGC(os.Getenv("GOGC"))
		//nolint:forbidigo // main is where contexts come from
		err = rig.Serve(context.Background(), os.Environ(), os.Stdin, os.Stdout)
	case "list":
		err = list(os.Stdout)
	case "run":
		//nolint:forbidigo // main is where contexts come from
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop) // the second Ctrl-C ends at once
		err = c.Run.run(ctx, os.Stdout)
		stop()
	default:
		err = c.Compare.run(os.Stdout)
	}
	k.FatalIfErrorf(err)
}

func list(w io.Writer) error {
	var b strings.Builder
	b.WriteString("Mixes (--mix):\n")
	for _, m := range load.Mixes() {
		fmt.Fprintf(&b, "  %-12s %s\n", m.Name, m.About)
	}
	b.WriteString("Profiles (--profile):\n")
	for _, p := range load.Profiles() {
		fmt.Fprintf(&b, "  %-12s %s (%s)\n", p.Name, p.About, p.Duration)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// run prints the verdict and the figures; the pictures are in the folder.
func (c *runCmd) run(ctx context.Context, out io.Writer) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	stop := func() error { return nil }
	switch {
	case c.Private:
		stop, err = c.private(ctx, &o)
	case c.KeysOf != "":
		stop, err = c.keysOf(ctx, &o)
	}
	var report load.Report
	if err == nil {
		report, err = load.Run(ctx, o)
	}
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	if err := errors.Join(report.Markdown(out), report.Save(c.Out)); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(os.Stderr, "load: the report is in %s\n", c.Out)
	if !report.Holds() {
		return errClaims
	}
	return nil
}

// target refuses what does not say one target, and with whose keys it is loaded.
func (c *runCmd) target() error {
	keyed := len(c.Key) > 0
	switch {
	case c.Private && (c.URL != "" || keyed || c.KeysOf != ""), !c.Private && c.URL == "":
		return errTarget
	case !c.Private && keyed == (c.KeysOf != ""):
		return errTarget
	case c.KeysOf != "" && c.database() == "":
		return errKeysOf
	}
	return nil
}

// database is the URL of the target's database; empty if it is not named.
func (c *runCmd) database() string {
	if c.Database != "" {
		return c.Database
	}
	return strings.TrimSpace(string(c.DatabaseFile))
}

func (c *runCmd) options() (load.Options, error) {
	if err := c.target(); err != nil {
		return load.Options{}, err
	}
	o := load.Options{
		URL: c.URL, Mix: c.Mix, Profile: c.Profile, Rate: c.Rate, Duration: c.Duration,
		RequestsMax: c.Requests, Seed: c.Seed, Poisson: c.Arrivals == "poisson", Callers: c.Callers,
		Accounts: c.Accounts, Fund: c.Fund, Currency: c.Currency, Drain: c.Drain, Database: c.database(),
		Anywhere: c.Anywhere, Progress: os.Stderr,
		Now: time.Now, //nolint:forbidigo // a command reads the clock
	}
	for _, text := range c.Key {
		key := load.Key{Class: "standard", Secret: text}
		if class, secret, ok := strings.Cut(text, "="); ok {
			key = load.Key{Class: class, Secret: secret}
		}
		switch key.Class {
		case "critical", "standard", "sheddable":
		default:
			return o, fmt.Errorf("--key %s=…: %w", key.Class, errClasses)
		}
		o.Keys = append(o.Keys, key)
	}
	for _, text := range c.Funder {
		id, err := uuid.Parse(text)
		if err != nil {
			return o, fmt.Errorf("--funder %s: %w", text, err)
		}
		o.Funders = append(o.Funders, id)
	}
	return o, nil
}

// keysOf makes keys for the load. What it returns ends them.
func (c *runCmd) keysOf(ctx context.Context, o *load.Options) (func() error, error) {
	made, err := load.MakeTenantKeys(ctx, load.TenantKeysOptions{
		Database: o.Database, Tenant: c.KeysOf, Accounts: o.Accounts, Fund: o.Fund, Currency: o.Currency,
		Now: o.Now,
	})
	o.Keys = made.Keys
	return func() error { return made.Revoke(ctx) }, err
}

// private starts a system and points the load at it. What it returns stops it.
func (c *runCmd) private(ctx context.Context, o *load.Options) (func() error, error) {
	none := func() error { return nil }
	program, err := os.Executable()
	if err != nil {
		return none, fmt.Errorf("find this program: %w", err)
	}
	logs, closeLogs := io.Writer(os.Stderr), none
	if c.Logs != "" {
		file, err := os.Create(c.Logs)
		if err != nil {
			return none, fmt.Errorf("write logs: %w", err)
		}
		logs, closeLogs = file, file.Close
	}
	_, _ = fmt.Fprintln(os.Stderr, "load: starting a private system")
	p, err := load.StartPrivate(ctx, load.PrivateOptions{
		Command: []string{program, "serve"}, Environ: c.Set, Workers: c.Workers, Tenants: c.Tenants,
		Logs: logs, Volatile: c.Volatile,
		Now: o.Now, Env: os.Getenv, //nolint:forbidigo // a command reads the environment
	})
	o.URL, o.Keys, o.Database = p.URL, p.Keys, p.Database
	return func() error { return errors.Join(p.Stop(), closeLogs()) }, err
}

func (c *compareCmd) run(out io.Writer) error {
	a, err := load.Load(c.A)
	if err != nil {
		return err
	}
	b, err := load.Load(c.B)
	if err != nil {
		return err
	}
	both := load.Compare(&a, &b, c.Worse/100)
	if err := both.Markdown(out); err != nil {
		return err
	}
	if both.Worse() || !both.Holds {
		return errWorse
	}
	return nil
}
