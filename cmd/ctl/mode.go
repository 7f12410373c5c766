package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/mode"
)

//nolint:lll // help texts are struct tags
type modeCmd struct {
	Show     showModeCmd     `cmd:"" default:"withargs" help:"Print the mode, who decides it, the signals beside their thresholds, and which processes follow."`
	Pin      pinModeCmd      `cmd:"" help:"Say which mode is in force, for a time. The controller goes on judging and switches nothing."`
	Freeze   freezeModeCmd   `cmd:"" help:"Refuse writes that are not critical, for a time: pin frozen."`
	Advise   adviseModeCmd   `cmd:"" help:"Let the controller judge and switch nothing, for a time. The mode is normal."`
	Auto     autoModeCmd     `cmd:"" help:"End an override. The policy of HOLDFAST_POLICY_FILE says who decides then."`
	History  modeHistoryCmd  `cmd:"" help:"Print the latest changes of the mode, the latest first, with their causes."`
	Simulate simulateModeCmd `cmd:"" help:"Print which switches a policy would have made on what was measured, beside what was."`
	Policy   modePolicyCmd   `cmd:"" help:"Check a policy and print what it says. All that is wrong with it is printed at once."`
}

// modes is the mode as operators see it, by the policy of this command's environment.
func (d desk) modes() (*app.Modes, error) {
	p, err := mode.Load(d.policyFile)
	if err != nil {
		return nil, err
	}
	return app.NewModes(d.pool, p), nil
}

type showModeCmd struct{ output }

// Run prints the mode.
func (c *showModeCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *showModeCmd) do(ctx context.Context, d desk) error {
	modes, err := d.modes()
	if err != nil {
		return err
	}
	now, err := modes.Now(ctx)
	if err != nil {
		return err
	}
	line := lineOfMode(now)
	if c.JSON {
		return json.NewEncoder(d.out).Encode(line)
	}
	return line.write(d.out)
}

//nolint:lll // help texts are struct tags
type pinModeCmd struct {
	output

	Mode   mode.Mode     `arg:"" enum:"normal,constrained,protection,frozen" help:"normal, constrained, protection or frozen."`
	For    time.Duration `required:"" help:"How long, such as 30m or 1h; 1m to 12h. It ends by itself then."`
	Reason string        `required:"" help:"Why, 1 to 500 bytes; it stands in the history."`
}

// Run pins a mode and prints what follows.
func (c *pinModeCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *pinModeCmd) do(ctx context.Context, d desk) error {
	return d.override(ctx, c.JSON, mode.Override{
		Control: mode.Pinned, Mode: c.Mode, For: c.For, Reason: c.Reason,
	})
}

type freezeModeCmd struct {
	output

	For    time.Duration `required:"" help:"How long, such as 30m or 1h; 1m to 12h. It ends by itself then."`
	Reason string        `required:"" help:"Why, 1 to 500 bytes; it stands in the history."`
}

// Run pins the mode frozen and prints what follows.
func (c *freezeModeCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *freezeModeCmd) do(ctx context.Context, d desk) error {
	return (&pinModeCmd{c.output, mode.Frozen, c.For, c.Reason}).do(ctx, d)
}

type adviseModeCmd struct {
	output

	For    time.Duration `required:"" help:"How long, such as 30m or 1h; 1m to 12h. It ends by itself then."`
	Reason string        `required:"" help:"Why, 1 to 500 bytes; it stands in the history."`
}

// Run lets the controller advise only and prints what follows.
func (c *adviseModeCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *adviseModeCmd) do(ctx context.Context, d desk) error {
	return d.override(ctx, c.JSON, mode.Override{Control: mode.Advise, For: c.For, Reason: c.Reason})
}

type autoModeCmd struct {
	output

	Reason string `required:"" help:"Why, 1 to 500 bytes; it stands in the history."`
}

// Run ends an override and prints what follows.
func (c *autoModeCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *autoModeCmd) do(ctx context.Context, d desk) error {
	return d.override(ctx, c.JSON, mode.Override{Control: mode.Auto, Reason: c.Reason})
}

// override says who decides and prints the change. Who follows is not a part of it: that takes a moment.
func (d desk) override(ctx context.Context, asJSON bool, o mode.Override) error {
	if o.Control != mode.Auto && (o.For < mode.ForMin || o.For > mode.ForMax) {
		return fmt.Errorf("--for has to be %v to %v", mode.ForMin, mode.ForMax)
	}
	modes, err := d.modes()
	if err != nil {
		return err
	}
	o.Actor = actor()
	set, err := modes.Override(ctx, o)
	if err != nil {
		return explained(err)
	}
	return show(d.out, asJSON, []overrideLine{lineOfOverride(set)}, overrideHeader)
}

type modeHistoryCmd struct {
	output

	Limit int `default:"50" help:"How many to print at most; 1 to 200."`
}

// Run prints who or what switched the mode, when and why.
func (c *modeHistoryCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *modeHistoryCmd) do(ctx context.Context, d desk) error {
	if c.Limit < 1 || c.Limit > mode.HistoryMaxRows {
		return fmt.Errorf("--limit has to be 1 to %d", mode.HistoryMaxRows)
	}
	found, err := mode.History(ctx, d.pool, 0, c.Limit)
	if err != nil {
		return err
	}
	lines := make([]changeLine, len(found))
	for i, h := range found {
		lines[i] = lineOfChange(h)
	}
	return show(d.out, c.JSON, lines, changeHeader)
}

//nolint:lll // help texts are struct tags
type simulateModeCmd struct {
	output

	Since  time.Duration `default:"1h" help:"How far back, such as 1h; at most 168h, for which samples are kept."`
	Policy string        `placeholder:"FILE" help:"The policy to try. Without one it is that of HOLDFAST_POLICY_FILE, or the program's own."`
}

// Run prints what a policy would have done.
func (c *simulateModeCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *simulateModeCmd) do(ctx context.Context, d desk) error {
	if c.Since <= 0 || c.Since > mode.SamplesKept {
		return fmt.Errorf("--since has to be above 0 and at most %v: samples are not kept for longer",
			mode.SamplesKept)
	}
	if c.Policy != "" {
		d.policyFile = c.Policy
	}
	modes, err := d.modes()
	if err != nil {
		return err
	}
	made, err := modes.Simulate(ctx, c.Since)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(d.out).Encode(lineOfSimulation(made))
	}
	if made.Samples == 0 {
		_, err := fmt.Fprintf(d.out,
			"There is no sample of the last %v: no api or worker has judged the mode.\n", c.Since)
		return err
	}
	return lineOfSimulation(made).write(d.out)
}

//nolint:lll // help texts are struct tags
type modePolicyCmd struct {
	File string `arg:"" optional:"" help:"The policy to check. Without one it is that of HOLDFAST_POLICY_FILE, or the program's own."`
}

// Run checks and prints a policy. It asks no database.
func (c *modePolicyCmd) Run() error {
	cfg, err := config.Load(os.Environ())
	if err != nil {
		return err
	}
	return c.do(os.Stdout, cfg.PolicyFile)
}

func (c *modePolicyCmd) do(out io.Writer, inForce string) error {
	if c.File != "" {
		inForce = c.File
	}
	p, err := mode.Load(inForce)
	if err != nil {
		return err
	}
	return printPolicy(out, p)
}
