package jobqueue

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"example.com/holdfast/internal/tracing"
)

// tracesMax bounds the rows of a job that are traced, so that a job stays small where everything is sampled.
const tracesMax = 8

// Traces are the traceparents of the rows of a job, by their ids. Rows that are not sampled are not in it, so
// it is nil where nothing is traced. It is copied wherever a job is: given back, taken over, put back after a
// failure. A sweeper knows nothing of it.
type Traces map[uuid.UUID]string

// Add puts a row to the traces, if it is traced and there is room.
func (t *Traces) Add(id uuid.UUID, traceparent string) {
	if traceparent == "" || len(*t) == tracesMax {
		return
	}
	if *t == nil {
		*t = Traces{}
	}
	(*t)[id] = traceparent
}

// metadata is what a job's column of that name says to us.
type metadata struct {
	Traces Traces `json:"traces"`
}

// metadataOf is the column of jobs, or nil if none is traced.
func metadataOf(jobs []Job) ([][]byte, error) {
	var column [][]byte
	for i, j := range jobs {
		if j.Traces == nil {
			continue
		}
		encoded, err := json.Marshal(metadata{j.Traces})
		if err != nil {
			return nil, fmt.Errorf("encode traces of job %s: %w", j.Kind, err)
		}
		if column == nil {
			column = make([][]byte, len(jobs))
		}
		column[i] = encoded
	}
	return column, nil
}

// traced gives the work of a job its span, which is in the trace of one of its rows and names the others.
type traced struct{ river.MiddlewareDefaults }

type inHandKey struct{}

// inHand is the job that a worker has, as its rows see it.
type inHand struct {
	kind   string
	traces Traces
}

// noMetadata is the length of an empty object.
const noMetadata = len("{}")

// Work does the job within its span.
func (*traced) Work(ctx context.Context, job *rivertype.JobRow, work func(context.Context) error) error {
	if len(job.Metadata) <= noMetadata || !tracing.Known(ctx) {
		return work(ctx)
	}
	var m metadata
	if err := json.Unmarshal(job.Metadata, &m); err != nil || m.Traces == nil {
		return work(ctx) // somebody else wrote it
	}
	ids := slices.SortedFunc(maps.Keys(m.Traces), compareIDs)
	traceparents := make([]string, len(ids))
	for i, id := range ids {
		traceparents[i] = m.Traces[id]
	}
	ctx, span := tracing.Share(ctx, tracing.Consumer, "job "+job.Kind, traceparents)
	span.Text("messaging.system", "river")
	span.Text("messaging.destination.name", job.Queue)
	span.Int("messaging.message.id", int(job.ID))
	span.Int("holdfast.attempt", job.Attempt)
	span.Int("holdfast.lane", job.Priority)
	err := work(context.WithValue(ctx, inHandKey{}, inHand{job.Kind, m.Traces}))
	span.End(err)
	return err
}

func compareIDs(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }

// TraceOf is the traceparent that the job in hand has for a row, or "".
func TraceOf(ctx context.Context, id uuid.UUID) string {
	job, _ := ctx.Value(inHandKey{}).(inHand)
	return job.traces[id]
}

// Step begins what the job in hand does for a row. It belongs to the row's trace, and to none if the row has
// none.
func Step(ctx context.Context, id uuid.UUID) (context.Context, tracing.Span) {
	job, known := ctx.Value(inHandKey{}).(inHand)
	if !known {
		return ctx, tracing.Span{}
	}
	ctx, span := tracing.Follow(ctx, tracing.Internal, job.kind, job.traces[id])
	if span.On() {
		span.Text("holdfast.aggregate_id", id.String())
	}
	return ctx, span
}
