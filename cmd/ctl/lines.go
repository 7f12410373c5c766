package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/slots"
	"example.com/holdfast/internal/transfer"
)

// What the commands for operators print: JSON has the names and units of the admin API, a table is for
// people.
const (
	dependencyHeader = "DEPENDENCY\tPLACES\tHELD BY\tVERSION\tSET BY\tSET AT\tREASON"
	limitHeader      = "DEPENDENCY\tPLACES\tVERSION\tSET BY\tSET AT\tREASON"
	postureHeader    = "CURRENCY\tOPEN UP TO (MINOR UNITS)\tVERSION\tSET BY\tSET AT\tREASON"
	queueHeader      = "QUEUE\tLANE 1\tLANE 2\tLANE 3\tLANE 4"
	eventTypeHeader  = "TYPE\tMEANING"
	lagHeader        = "WHERE\tNAME\tEVENTS\tSECONDS"
	webhookHeader    = "TENANT\tID\tURL\tSTATUS\tFAILURES\tFAILING SINCE\tLAST ERROR"
	attemptHeader    = "AT\tKIND\tTYPE\tEVENT\tATTEMPT\tOUTCOME\tMS\tERROR"
	redrivenHeader   = "ID\tEVENTS"
	statusHeader     = "SEVERITY\tCONDITION\tSUBJECT\tTITLE\tRUNBOOK"
	deadHeader       = "AT\tKIND\tID\tWHAT\tREASON\tATTEMPTS\tLAST ERROR"
)

// cellMaxBytes bounds a cell with a text that anybody wrote.
const cellMaxBytes = 80

// row is a line of a table.
type row interface{ cells() []string }

// show writes lines as one line of JSON, or as a table.
func show[T row](out io.Writer, asJSON bool, lines []T, header string) error {
	if asJSON {
		return json.NewEncoder(out).Encode(lines)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, header)
	for _, l := range lines {
		_, _ = fmt.Fprintln(table, strings.Join(l.cells(), "\t"))
	}
	return table.Flush()
}

// cell makes a text fit into a table.
func cell(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > cellMaxBytes {
		text = strings.ToValidUTF8(text[:cellMaxBytes], "") + "…"
	}
	if text == "" {
		return "-"
	}
	return text
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

type dependencyLine struct {
	Dependency string       `json:"dependency"`
	Places     int          `json:"places"`
	Holders    []holderLine `json:"holders"`
	Version    int          `json:"version"`
	Actor      string       `json:"actor"`
	SetAt      time.Time    `json:"set_at"`
	Reason     string       `json:"reason"`
}

type holderLine struct {
	Holder string `json:"holder"`
	Places int    `json:"places"`
}

func lineOfDependency(d httpapi.Dependency) dependencyLine {
	line := dependencyLine{Dependency: d.Name, Holders: []holderLine{}}
	if l := d.Limit; l != nil {
		line.Places, line.Version, line.Actor = l.Places, l.Version, l.Actor
		line.SetAt, line.Reason = l.SetAt.UTC(), l.Reason
	}
	for _, h := range d.Holders {
		line.Holders = append(line.Holders, holderLine{Holder: h.Name, Places: h.Places})
	}
	return line
}

func (l dependencyLine) cells() []string {
	held := make([]string, len(l.Holders))
	for i, h := range l.Holders {
		held[i] = h.Holder + ":" + strconv.Itoa(h.Places)
	}
	return []string{
		l.Dependency, strconv.Itoa(l.Places), orDash(strings.Join(held, " ")), strconv.Itoa(l.Version),
		cell(l.Actor), clock(l.SetAt), cell(l.Reason),
	}
}

// limitLine is a version of a limit. Who holds the places is not a part of it: that follows within a second.
type limitLine struct {
	Dependency string    `json:"dependency"`
	Places     int       `json:"places"`
	Version    int       `json:"version"`
	Actor      string    `json:"actor"`
	SetAt      time.Time `json:"set_at"`
	Reason     string    `json:"reason"`
}

func lineOfLimit(l slots.Limit) limitLine {
	return limitLine{l.Dependency, l.Places, l.Version, l.Actor, l.SetAt.UTC(), l.Reason}
}

func (l limitLine) cells() []string {
	return []string{
		l.Dependency, strconv.Itoa(l.Places), strconv.Itoa(l.Version), cell(l.Actor), clock(l.SetAt),
		cell(l.Reason),
	}
}

type postureLine struct {
	Currency string    `json:"currency"`
	OpenUpTo int64     `json:"open_up_to"`
	Version  int32     `json:"version"`
	Actor    string    `json:"actor"`
	SetAt    time.Time `json:"set_at"`
	Reason   string    `json:"reason"`
}

func lineOfPosture(p transfer.Posture) postureLine {
	return postureLine{p.Currency, p.OpenUpTo, p.Version, p.Actor, p.SetAt.UTC(), p.Reason}
}

func (l postureLine) cells() []string {
	return []string{
		l.Currency, strconv.FormatInt(l.OpenUpTo, 10), strconv.Itoa(int(l.Version)), cell(l.Actor),
		clock(l.SetAt), cell(l.Reason),
	}
}

type queueLine struct {
	Queue string `json:"queue"`
	// AgeSeconds is by lane, the first lane first.
	AgeSeconds []float64 `json:"age_seconds"`
}

func lineOfQueue(q httpapi.Queue) queueLine {
	line := queueLine{Queue: q.Name, AgeSeconds: make([]float64, len(q.Ages))}
	for i, age := range q.Ages {
		line.AgeSeconds[i] = age.Seconds()
	}
	return line
}

func (l queueLine) cells() []string {
	cells := []string{l.Queue}
	for _, age := range l.AgeSeconds {
		if age == 0 {
			cells = append(cells, "-")
			continue
		}
		cells = append(cells, strconv.FormatFloat(age, 'f', 1, 64)+" s")
	}
	return cells
}

type eventTypeLine struct {
	Type        string `json:"type"`
	Description string `json:"description"`
}

func (l eventTypeLine) cells() []string { return []string{l.Type, l.Description} }

type deadLine struct {
	At        time.Time `json:"at"`
	Kind      string    `json:"kind"`
	TenantID  uuid.UUID `json:"tenant_id,omitzero"`
	ID        string    `json:"id"`
	Status    string    `json:"status,omitzero"`
	Event     string    `json:"event,omitzero"`
	Consumer  string    `json:"consumer,omitzero"`
	Job       string    `json:"job,omitzero"`
	Queue     string    `json:"queue,omitzero"`
	Reason    string    `json:"reason"`
	Attempts  int       `json:"attempts"`
	LastError string    `json:"last_error,omitzero"`
}

func lineOfDead(d httpapi.DeadLetter) deadLine {
	return deadLine{
		d.At.UTC(), d.Kind, d.TenantID, d.ID, d.Status, d.Event, d.Consumer, d.Job, d.Queue, d.Reason,
		d.Attempts, d.LastError,
	}
}

func (l deadLine) cells() []string {
	what := l.Status
	switch l.Kind {
	case httpapi.DeadJob:
		what = l.Job + " on " + l.Queue
	case httpapi.DeadDelivery, httpapi.DeadWebhook:
		what = l.Event + " for " + l.Consumer
	}
	return []string{
		clock(l.At), l.Kind, l.ID, cell(what), cell(l.Reason), strconv.Itoa(l.Attempts), cell(l.LastError),
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// explained is a refusal alone, without the way that it came. The parts of it that are wrong are named as
// flags and arguments are.
func explained(err error) error {
	p, ok := errors.AsType[*problem.Error](err)
	switch {
	case !ok:
		return err
	case len(p.Fields) == 0:
		return p
	}
	parts := make([]string, len(p.Fields))
	for i, f := range p.Fields {
		parts[i] = strings.ReplaceAll(strings.TrimPrefix(f.Pointer, "/"), "_", "-") + " " + f.Detail
	}
	return errors.New(strings.Join(parts, "; "))
}
