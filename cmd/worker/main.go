// Command worker screens, settles and notifies what the API accepted. Every setting is an environment
// variable of internal/config. `worker healthcheck` asks the one that runs beside it whether it is ready.
package main

import (
	"context"
	"fmt"
	"os"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := app.UntilSignal(context.Background())
	defer stop()
	app.TuneGC(os.Getenv("GOGC"))
	asks, err := app.AsksForHealth(args)
	if err != nil {
		return err
	}
	cfg, err := config.Load(os.Environ())
	if err != nil {
		return err
	}
	if asks {
		return app.Healthcheck(ctx, cfg)
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
