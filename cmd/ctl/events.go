package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"example.com/holdfast/internal/cloudevent"
)

// The rights of what `events schemas` writes: it is for programs of others.
const (
	schemaDirMode  = 0o755
	schemaFileMode = 0o644
)

//nolint:lll // help texts are struct tags
type eventsCmd struct {
	Lag     eventLagCmd     `cmd:"" help:"Print how far events are behind on their ways out, and in the program: by whom, how many, and for how many seconds."`
	Types   eventTypesCmd   `cmd:"" help:"Print the types of the messages that leave, in webhooks, at the broker and in the feed."`
	Schemas eventSchemasCmd `cmd:"" help:"Print the JSON Schema of each type, by its name, and that of the message around it, as one JSON document."`
}

type eventLagCmd struct{ output }

// Run prints how far events are behind. A relay or a sink that is not there shows by a lag that grows.
func (c *eventLagCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *eventLagCmd) do(ctx context.Context, d desk) error {
	lag, err := d.operations.Outbox(ctx)
	if err != nil {
		return err
	}
	lines := []lagLine{{Where: "outbox", AgeSeconds: lag.Outbox.Seconds()}}
	for _, s := range lag.Sinks {
		lines = append(lines, lagLine{"sink", s.Name, &s.Events, s.Age.Seconds()})
	}
	for _, one := range lag.Consumers {
		lines = append(lines, lagLine{Where: "consumer", Name: one.Name, AgeSeconds: one.Age.Seconds()})
	}
	return show(d.out, c.JSON, lines, lagHeader)
}

// lagLine is how far one is behind. Events are counted for sinks only.
type lagLine struct {
	Where      string  `json:"where"`
	Name       string  `json:"name,omitempty"`
	Events     *int64  `json:"events,omitempty"`
	AgeSeconds float64 `json:"age_seconds"`
}

func (l lagLine) cells() []string {
	events := "-"
	if l.Events != nil {
		events = strconv.FormatInt(*l.Events, 10)
	}
	return []string{l.Where, cell(l.Name), events, strconv.FormatFloat(l.AgeSeconds, 'f', 1, 64)}
}

type eventTypesCmd struct{ output }

// Run prints the types that this program knows. It asks no database.
func (c *eventTypesCmd) Run() error { return c.do(os.Stdout) }

func (c *eventTypesCmd) do(out io.Writer) error {
	types := cloudevent.Types()
	lines := make([]eventTypeLine, len(types))
	for i, t := range types {
		lines[i] = eventTypeLine{t.Name, t.Description}
	}
	return show(out, c.JSON, lines, eventTypeHeader)
}

//nolint:lll // help texts are struct tags
type eventSchemasCmd struct {
	Out string `type:"path" placeholder:"DIR" help:"Write a file for each into this folder instead, as NAME.json; files of these names are replaced."`
}

// Run prints or writes the schemas that this program's messages fit.
func (c *eventSchemasCmd) Run() error { return c.do(os.Stdout) }

func (c *eventSchemasCmd) do(out io.Writer) error {
	schemas := map[string]json.RawMessage{}
	for _, t := range cloudevent.Types() {
		schemas[t.Name] = t.Schema
	}
	schemas[cloudevent.EnvelopeName], _ = cloudevent.SchemaOf(cloudevent.EnvelopeName)
	if c.Out != "" {
		return writeSchemas(c.Out, schemas)
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(schemas)
}

func writeSchemas(dir string, schemas map[string]json.RawMessage) error {
	if err := os.MkdirAll(dir, schemaDirMode); err != nil {
		return fmt.Errorf("make folder for schemas: %w", err)
	}
	for name, schema := range schemas {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), schema, schemaFileMode); err != nil {
			return fmt.Errorf("write schema %s: %w", name, err)
		}
	}
	return nil
}
