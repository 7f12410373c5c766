// Command simdep runs the simulated risk and notification services and payout rail until it is interrupted.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/alecthomas/kong"

	"example.com/holdfast/loadtest/simdep"
)

const description = `Simulated dependencies of Holdfast: POST /v1/screenings, POST /v1/notifications,
GET /v1/effects/{key}, POST /v1/payouts, GET /v1/payouts/{reference},
POST /v1/payouts/{reference}/withdrawal, GET /journal?keys=N, GET and PUT /knobs.`

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
	var f flags
	kong.Parse(&f, options()...).FatalIfErrorf(f.run(ctx, os.Stderr))
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
