package main

import (
	"context"
	"time"

	"example.com/holdfast/internal/condition"
)

type statusCmd struct{ output }

// Run prints what is wrong as the database shows it, in one look: also what is so for a moment only. What
// processes alone know (breakers, saturation, the broker) is at GET /admin/v1/status of each of them.
func (c *statusCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *statusCmd) do(ctx context.Context, d desk) error {
	wrong, err := d.operations.Wrong(ctx, time.Now())
	if err != nil {
		return err
	}
	lines := make([]statusLine, len(wrong))
	for i, a := range wrong {
		lines[i] = lineOfActive(a)
	}
	if len(lines) == 0 && !c.JSON {
		lines = []statusLine{{Severity: condition.Overall(nil), Title: "Nothing is wrong in the database"}}
	}
	return show(d.out, c.JSON, lines, statusHeader)
}

type statusLine struct {
	Severity string `json:"severity"`
	Name     string `json:"name"`
	Subject  string `json:"subject"`
	Title    string `json:"title"`
	Text     string `json:"text"`
	Runbook  string `json:"runbook"`
}

func lineOfActive(a condition.Active) statusLine {
	c := a.Condition
	return statusLine{string(c.Severity), c.Name, a.Subject, c.Title, c.Text, c.Runbook()}
}

func (l statusLine) cells() []string {
	return []string{l.Severity, orDash(l.Name), orDash(l.Subject), l.Title, orDash(l.Runbook)}
}
