package httpapi

import (
	"context"
	"net/http"
	"strings"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/problem"
)

const eventTypes = "/v1/event-types"

// typeFilter says which types of events are wanted. Nil wants all.
type typeFilter func(name string) bool

func (f typeFilter) wants(name string) bool { return f == nil || f(name) }

// readFilter reads the name of a type, or the beginning of some and a star. What no type has is a mistake: it
// must not look like a time without events.
func readFilter(text string) (typeFilter, []problem.Field) {
	if text == "" {
		return nil, nil
	}
	filter := typeFilter(func(name string) bool { return name == text })
	if kind, ok := strings.CutSuffix(text, "*"); ok && strings.HasSuffix(kind, ".") {
		filter = func(name string) bool { return strings.HasPrefix(name, kind) }
	}
	for _, t := range cloudevent.Types() {
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
	types := cloudevent.Types()
	out := publicapi.ListEventTypes200JSONResponse{EventTypes: make([]publicapi.EventType, len(types))}
	for i, t := range types {
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
	if text, ok := cloudevent.SchemaOf(in.Type); ok {
		return schema(text), nil
	}
	return nil, problem.New(problem.NotFound, "There is no type of events of this name.")
}
