// Command simdep runs the simulated risk and notification services and payout rail until it is interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"example.com/holdfast/loadtest/simdep"
)

const description = `Simulated dependencies of Holdfast: POST /v1/screenings, POST /v1/notifications,
GET /v1/effects/{key}, POST /v1/payouts, GET /v1/payouts/{reference},
POST /v1/payouts/{reference}/withdrawal, GET /journal?keys=N, GET and PUT /knobs.`

type cli struct {
	Serve       flags          `cmd:"" default:"withargs" help:"Serve until interrupted."`
	Healthcheck healthcheckCmd `cmd:"" help:"Ask the one that runs beside it whether it answers."`
}

type flags struct {
	Addr         string `default:"127.0.0.1:9090" help:"Address to listen on."`
	Knobs        string `help:"Knobs, for example {\"error_rate\":0.01}." placeholder:"JSON" xor:"knobs"`
	KnobsFile    []byte `help:"File with the knobs." placeholder:"FILE" type:"filecontent" xor:"knobs"`
	JournalLimit int    `default:"${journal_limit}" help:"Effect keys to remember; the oldest go first."`
	Verbose      bool   `help:"Log every request." short:"v"`
}

func main() {
	//nolint:forbidigo // main is where contexts come from
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	k := kong.Parse(&c, options()...)
	if k.Command() == "healthcheck" {
		k.FatalIfErrorf(c.Healthcheck.run(ctx))
		return
	}
	k.FatalIfErrorf(c.Serve.run(ctx, os.Stderr))
}

func options() []kong.Option {
	return []kong.Option{
		kong.Name("simdep"), kong.Description(description),
		kong.Vars{"journal_limit": strconv.Itoa(simdep.DefaultJournalLimit)},
	}
}

// run serves until ctx ends.
func (f *flags) run(ctx context.Context, logTo io.Writer) error {
	log := slog.New(slog.NewJSONHandler(logTo, &slog.HandlerOptions{Level: slog.LevelDebug}))
	options := simdep.Options{Addr: f.Addr, JournalLimit: f.JournalLimit}
	if f.Verbose {
		options.Log = log
	}
	text := append([]byte(f.Knobs), f.KnobsFile...) // at most one of them is given
	if len(text) > 0 {
		knobs, err := simdep.ParseKnobs(text)
		if err != nil {
			return err
		}
		options.Knobs = knobs
	}
	server, err := simdep.Start(ctx, options)
	if err != nil {
		return err
	}
	log.LogAttrs(ctx, slog.LevelInfo, "listening", slog.String("url", server.URL()))
	<-ctx.Done()
	return server.Close()
}

// healthMax bounds one health check.
const healthMax = 2 * time.Second

type healthcheckCmd struct {
	URL string `default:"http://127.0.0.1:9090" help:"Where it listens."`
}

var errUnwell = errors.New("it does not answer as it should")

// run asks for the knobs: they are there as soon as it serves, however unwell it acts.
func (c *healthcheckCmd) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthMax)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+"/knobs", http.NoBody)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	reply, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	if err := reply.Body.Close(); err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("health check: %s: %w", reply.Status, errUnwell)
	}
	return nil
}
