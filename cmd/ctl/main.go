// Command ctl runs and operates Holdfast from a terminal.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"

	"example.com/holdfast/internal/app"
)

//nolint:lll // help texts are struct tags
type cli struct {
	Up          upCmd            `cmd:"" help:"Run the whole system on a private Postgres, with simulated dependencies and demo data."`
	Migrate     migrateCmd       `cmd:"" help:"Bring a database to the schema of this program."`
	Seed        seedCmd          `cmd:"" help:"Add the demo tenant with funded accounts and new keys to a database."`
	Key         keyCmd           `cmd:"" help:"Create and revoke API keys and admin keys."`
	Dependency  dependencyCmd    `cmd:"" help:"Read and set the limits of the dependencies."`
	Posture     postureCmd       `cmd:"" help:"Read and set what happens to a tenant's transfers when the risk service cannot be asked."`
	Status      statusCmd        `cmd:"" help:"Print what the database shows to be wrong, the worst first, with its runbook."`
	Mode        modeCmd          `cmd:"" help:"Read the mode of the service, override it, and try policies."`
	Queues      queuesCmd        `cmd:"" help:"Print for how long the oldest due work of each queue and lane has waited."`
	DeadLetters deadCmd          `cmd:"" help:"Print transfers, orders, events and jobs that were given up, the latest first."`
	Webhook     webhookCmd       `cmd:"" help:"Read, pause and resume webhook endpoints, and send again what they did not take."`
	Events      eventsCmd        `cmd:"" help:"Print which messages leave, and the JSON Schemas that they fit."`
	Config      configCmd        `cmd:"" help:"Print every setting as this environment sets it, secrets hidden."`
	Version     kong.VersionFlag `help:"Print the version and exit."`
}

func main() {
	ctx, stop := app.UntilSignal(context.Background())
	var c cli
	k := kong.Parse(&c, kong.Name("ctl"), kong.UsageOnError(),
		kong.Vars{"version": app.Version(), "data": dataDir()},
		kong.Description("Run and operate Holdfast, the transfer backend that keeps its promises."),
		kong.BindTo(ctx, (*context.Context)(nil)))
	err := k.Run()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ctl:", err)
		os.Exit(1)
	}
}

// dataDir is where the private database is kept: outside the repository, in the user's cache folder,
// or beside the program where a user has none.
func dataDir() string {
	cache, err := os.UserCacheDir()
	if err != nil || os.Geteuid() == 0 {
		cache = "/var/tmp" // reached by the user that the server then runs as, and kept over a restart
	}
	return filepath.Join(cache, "holdfast", "postgres")
}
