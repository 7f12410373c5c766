// Command worker screens, settles and notifies what the API accepted. Every setting is an environment
// variable of internal/config.
package main

import (
	"context"
	"fmt"
	"os"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := app.UntilSignal(context.Background())
	defer stop()
	app.TuneGC(os.Getenv("GOGC"))
	cfg, err := config.Load(os.Environ())
	if err != nil {
		return err
	}
	env, err := app.NewEnv(cfg, app.Version())
	if err != nil {
		return err
	}
	traces, err := env.OpenTraces(ctx, "holdfast-worker", os.Environ())
	if err != nil {
		return err
	}
	worker, err := app.NewWorker(ctx, cfg, env, app.Transports{})
	if err != nil {
		return err
	}
	worker.ListenAdmin()
	return app.Run(traces.Into(ctx), cfg.Drain, traces, worker)
}
