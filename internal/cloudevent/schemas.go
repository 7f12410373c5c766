package cloudevent

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// EnvelopeName is the name of the schema that all messages have in common. It is no type.
const EnvelopeName = "cloudevent"

//go:embed schemas
var files embed.FS

// Type is a type of messages.
type Type struct {
	// Name is as messages have it: transfer.settled.
	Name        string
	Title       string
	Description string
	// Schema is the JSON Schema of the messages' data.
	Schema []byte
}

// Types lists the types of messages by their names. Their schemas are not to be changed.
func Types() []Type {
	return slices.DeleteFunc(slices.Clone(schemas()), func(t Type) bool { return t.Name == EnvelopeName })
}

// SchemaOf finds the schema of a type's data, or that of the message around it by EnvelopeName.
func SchemaOf(name string) ([]byte, bool) {
	for _, t := range schemas() {
		if t.Name == name {
			return t.Schema, true
		}
	}
	return nil, false
}

// schemas are all schemas by their names.
//
//nolint:gochecknoglobals // read once, read-only
var schemas = sync.OnceValue(func() []Type {
	found, err := readSchemas()
	if err != nil {
		panic(err) // a file that is no schema, caught by every test of this package
	}
	return found
})

func readSchemas() ([]Type, error) {
	const dir, suffix = "schemas", ".json"
	entries, err := files.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := make([]Type, len(entries))
	for i, entry := range entries {
		body, err := files.ReadFile(dir + "/" + entry.Name())
		if err != nil {
			return nil, err
		}
		var head struct {
			Title       string `json:"title"`
			Description string `json:"description"`
		}
		if err := json.Unmarshal(body, &head); err != nil {
			return nil, fmt.Errorf("read schema %s: %w", entry.Name(), err)
		}
		found[i] = Type{strings.TrimSuffix(entry.Name(), suffix), head.Title, head.Description, body}
	}
	return found, nil
}
