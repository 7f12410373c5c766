package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/slots"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/webhook"
)

// desk is what the commands for operators work on, and where they print.
type desk struct {
	pool       *pgxpool.Pool
	transfers  *transfer.Service
	operations *app.Operations
	webhooks   *webhook.Service
	policyFile string
	out        io.Writer
}

// atDesk opens the database that DATABASE_URL names.
func atDesk(ctx context.Context, do func(context.Context, desk) error) error {
	cfg, err := database()
	if err != nil {
		return err
	}
	d, err := openDesk(ctx, cfg, os.Stdout)
	if err != nil {
		return err
	}
	defer d.pool.Close()
	return do(ctx, d)
}

func openDesk(ctx context.Context, cfg config.Config, out io.Writer) (desk, error) {
	pool, err := app.OpenAPIPool(ctx, cfg)
	if err != nil {
		return desk{}, err
	}
	transfers := transfer.NewService(transfer.Config{Pool: pool, Now: time.Now})
	orders := order.NewService(order.Config{Pool: pool, Now: time.Now})
	return desk{
		pool: pool, transfers: transfers, operations: app.NewOperations(pool, transfers, orders), out: out,
		webhooks:   webhook.NewService(pool, webhook.Options{Now: time.Now}),
		policyFile: cfg.PolicyFile,
	}, nil
}

// actor is who changes something here, as histories name it.
func actor() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if name == "" {
		name = "unknown"
	}
	return "ctl:" + name
}

// output is how a command prints.
type output struct {
	JSON bool `name:"json" help:"Print one line of JSON, for scripts, instead of a table."`
}

//nolint:lll // help texts are struct tags
type dependencyCmd struct {
	List    listDependenciesCmd `cmd:"" help:"Print the limit of each dependency and who has how many of its places."`
	Limit   setLimitCmd         `cmd:"" help:"Set how many calls to a dependency may be in flight, over all processes together."`
	History historyCmd          `cmd:"" help:"Print the latest 200 versions of a dependency's limit, the one in force first."`
}

type listDependenciesCmd struct{ output }

// Run prints the limits in force. How a dependency fares is known by the workers: ask their admin listeners.
func (c *listDependenciesCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *listDependenciesCmd) do(ctx context.Context, d desk) error {
	found, err := d.operations.Dependencies(ctx)
	if err != nil {
		return err
	}
	lines := make([]dependencyLine, len(found))
	for i, dep := range found {
		lines[i] = lineOfDependency(dep)
	}
	return show(d.out, c.JSON, lines, dependencyHeader)
}

//nolint:lll // help texts are struct tags
type setLimitCmd struct {
	output

	Name   string `arg:"" help:"Name of the dependency, as in the list."`
	Places int    `arg:"" help:"How many calls may be in flight at once, over all processes together; 1 to 1000. Every process follows within a second; no call is ended."`
	Reason string `required:"" help:"Why, 1 to 500 bytes; it stands in the history."`
}

// Run sets the limit and prints it.
func (c *setLimitCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *setLimitCmd) do(ctx context.Context, d desk) error {
	set, err := slots.SetLimit(ctx, d.pool, slots.Change{
		Dependency: c.Name, Places: c.Places, Actor: actor(), Reason: c.Reason,
	})
	if err != nil {
		return explained(err)
	}
	return show(d.out, c.JSON, []limitLine{lineOfLimit(set)}, limitHeader)
}

type historyCmd struct {
	output

	Name string `arg:"" help:"Name of the dependency, as in the list."`
}

// Run prints who set which limit, when and why.
func (c *historyCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *historyCmd) do(ctx context.Context, d desk) error {
	found, err := slots.History(ctx, d.pool, c.Name, slots.HistoryMaxRows)
	if err != nil {
		return explained(err)
	}
	lines := make([]limitLine, len(found))
	for i, l := range found {
		lines[i] = lineOfLimit(l)
	}
	return show(d.out, c.JSON, lines, limitHeader)
}

//nolint:lll // help texts are struct tags
type postureCmd struct {
	List listPosturesCmd `cmd:"" help:"Print the versions of a tenant's risk postures, at most 200, the one in force of each currency first."`
	Set  setPostureCmd   `cmd:"" help:"Say up to which amount a tenant's transfers pass when the risk service cannot be asked."`
}

// posturesMax bounds a list of postures.
const posturesMax = 200

type listPosturesCmd struct {
	output

	Tenant string `required:"" help:"Name or id of the tenant."`
}

// Run prints the postures.
func (c *listPosturesCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *listPosturesCmd) do(ctx context.Context, d desk) error {
	tenantID, err := d.tenant(ctx, c.Tenant)
	if err != nil {
		return err
	}
	found, err := d.transfers.Postures(ctx, tenantID, posturesMax)
	if err != nil {
		return err
	}
	lines := make([]postureLine, len(found))
	for i, p := range found {
		lines[i] = lineOfPosture(p)
	}
	return show(d.out, c.JSON, lines, postureHeader)
}

//nolint:lll // help texts are struct tags
type setPostureCmd struct {
	output

	Tenant   string `required:"" help:"Name or id of the tenant."`
	Currency string `required:"" help:"ISO 4217 code of the transfers."`
	OpenUpTo int64  `required:"" help:"Largest amount that passes unscreened, in minor units (500 is 5.00 EUR); 0 lets none pass."`
	Reason   string `required:"" help:"Why, 1 to 500 bytes; it stands in the history."`
}

// Run sets the posture and prints it.
func (c *setPostureCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *setPostureCmd) do(ctx context.Context, d desk) error {
	tenantID, err := d.tenant(ctx, c.Tenant)
	if err != nil {
		return err
	}
	set, err := d.transfers.SetPosture(ctx, transfer.Posture{
		TenantID: tenantID, Currency: c.Currency, OpenUpTo: c.OpenUpTo, Actor: actor(), Reason: c.Reason,
	})
	if err != nil {
		return explained(err)
	}
	return show(d.out, c.JSON, []postureLine{lineOfPosture(set)}, postureHeader)
}

// tenant finds a tenant by its id or its name.
func (d desk) tenant(ctx context.Context, nameOrID string) (uuid.UUID, error) {
	if id, err := uuid.Parse(nameOrID); err == nil {
		return id, nil
	}
	id, err := tenancy.NewService(d.pool, time.Now).FindTenant(ctx, nameOrID)
	return id, explained(err)
}

type queuesCmd struct{ output }

// Run prints the ages of the queues.
func (c *queuesCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *queuesCmd) do(ctx context.Context, d desk) error {
	found, err := d.operations.Queues(ctx)
	if err != nil {
		return err
	}
	lines := make([]queueLine, len(found))
	for i, q := range found {
		lines[i] = lineOfQueue(q)
	}
	return show(d.out, c.JSON, lines, queueHeader)
}

type deadCmd struct {
	output

	Limit int `default:"50" help:"How many to print at most; 1 to 200."`
}

// deadMax bounds a list of dead letters.
const deadMax = 200

// Run prints what was given up.
func (c *deadCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *deadCmd) do(ctx context.Context, d desk) error {
	if c.Limit < 1 || c.Limit > deadMax {
		return fmt.Errorf("--limit has to be 1 to %d", deadMax)
	}
	found, err := d.operations.DeadLetters(ctx, c.Limit)
	if err != nil {
		return err
	}
	lines := make([]deadLine, len(found))
	for i, l := range found {
		lines[i] = lineOfDead(l)
	}
	return show(d.out, c.JSON, lines, deadHeader)
}
