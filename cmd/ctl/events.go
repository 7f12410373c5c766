package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"example.com/holdfast/internal/cloudevent"
)

// The rights of what `events schemas` writes: it is for programs of others.
const (
	schemaDirMode  = 0o755
	schemaFileMode = 0o644
)

//nolint:lll // help texts are struct tags
type eventsCmd struct {
	Types   eventTypesCmd   `cmd:"" help:"Print the types of the messages that leave, in webhooks, at the broker and in the feed."`
	Schemas eventSchemasCmd `cmd:"" help:"Print the JSON Schema of each type, by its name, and that of the message around it, as one JSON document."`
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
