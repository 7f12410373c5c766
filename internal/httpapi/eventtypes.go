package httpapi

import (
	"context"
	"net/http"
	"strings"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/problem"
)

const eventTypes = "/v1/event-types"

// EventType is a type of events, with the JSON Schema of their data.
type EventType struct {
	Name, Title, Description string
	Schema                   []byte
}

// typeFilter says which types of events are wanted. Nil wants all.
type typeFilter func(name string) bool

func (f typeFilter) wants(name string) bool { return f == nil || f(name) }

// typeFilter reads the name of a type, or the beginning of some and a star. What no type has is a mistake: it
// must not look like a time without events.
func (s *shared) typeFilter(text string) (typeFilter, []problem.Field) {
	if text == "" {
		return nil, nil
	}
	filter := typeFilter(func(name string) bool { return name == text })
	if kind, ok := strings.CutSuffix(text, "*"); ok && strings.HasSuffix(kind, ".") {
		filter = func(name string) bool { return strings.HasPrefix(name, kind) }
	}
	for _, t := range s.cfg.EventTypes {
		if filter(t.Name) {
			return filter, nil
		}
	}
	return nil, []problem.Field{{Pointer: "type", Detail: "is no type of events"}}
}

// ListEventTypes lists the types of events.
func (s *publicServer) ListEventTypes(
	context.Context, publicapi.ListEventTypesRequestObject,
) (publicapi.ListEventTypesResponseObject, error) {
	out := publicapi.ListEventTypes200JSONResponse{
		EventTypes: make([]publicapi.EventType, len(s.cfg.EventTypes)),
	}
	for i, t := range s.cfg.EventTypes {
		out.EventTypes[i] = publicapi.EventType{
			Type: t.Name, Title: t.Title, Description: t.Description,
			Schema: eventTypes + "/" + t.Name + "/schema",
		}
	}
	return out, nil
}

// schema is a JSON Schema, which is written as it is.
type schema []byte

// VisitGetEventTypeSchemaResponse writes the answer.
func (d schema) VisitGetEventTypeSchemaResponse(w http.ResponseWriter) error {
	write(w, typeJSON, http.StatusOK, d)
	return nil
}

// GetEventTypeSchema reads the schema of the data of a type.
func (s *publicServer) GetEventTypeSchema(
	_ context.Context, in publicapi.GetEventTypeSchemaRequestObject,
) (publicapi.GetEventTypeSchemaResponseObject, error) {
	for _, t := range s.cfg.EventTypes {
		if t.Name == in.Type {
			return schema(t.Schema), nil
		}
	}
	return nil, problem.New(problem.NotFound, "There is no type of events of this name.")
}
