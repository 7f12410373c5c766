// Command api serves the public HTTP API, and health, metrics and the admin API beside it. Every
// setting is an environment variable of internal/config.
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
		fmt.Fprintln(os.Stderr, "api:", err)
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
	traces, err := env.OpenTraces(ctx, "holdfast-api", os.Environ())
	if err != nil {
		return err
	}
	api, err := app.NewAPI(ctx, cfg, env)
	if err != nil {
		return err
	}
	return app.Run(traces.Into(ctx), cfg.Drain, traces, api)
}
