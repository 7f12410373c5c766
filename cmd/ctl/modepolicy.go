package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"example.com/holdfast/internal/mode"
)

const (
	policyHeader    = "\tNORMAL\tCONSTRAINED\tPROTECTION\tFROZEN"
	thresholdHeader = "SIGNAL\tCONSTRAINED: ENTER\tLEAVE\tPROTECTION: ENTER\tLEAVE"
)

// printPolicy writes what a policy says: what switches the mode, and what each mode does.
func printPolicy(out io.Writer, p *mode.Policy) error {
	_, _ = fmt.Fprintf(out, `policy %s
control %s: a sample every %v; %d in a row switch up, %d switch down; a level lasts %v at least

`, p.Hash(), p.Control, p.SampleEvery, p.EnterAfter, p.LeaveAfter, p.Dwell)
	var thresholds []thresholdLine
	for _, s := range mode.Signals() {
		thresholds = append(thresholds, thresholdLine(lineOfSignal(s, p, nil)))
	}
	if err := show(out, false, thresholds, thresholdHeader); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out)
	if err := show(out, false, matrixOf(p), policyHeader); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out,
		"\nWhat was deferred catches up from %g of its places to all of them within %v.\n", p.CatchUp.From,
		p.CatchUp.Within)
	return err
}

// thresholdLine is a signal without its value.
type thresholdLine signalLine

func (l thresholdLine) cells() []string { return slices.Delete(signalLine(l).cells(), 1, 2) }

// matrixLine is what each mode makes of one thing.
type matrixLine []string

func (l matrixLine) cells() []string { return l }

func matrixOf(p *mode.Policy) []matrixLine {
	var lines []matrixLine
	for _, w := range mode.Works() {
		lines = append(lines, lineOfCells(string(w), string(mode.All), p.Requests[w]))
	}
	for _, f := range mode.Flows() {
		lines = append(lines, lineOfCells(string(f), string(mode.Run), p.Flows[f]))
	}
	wait := make(map[mode.Mode]string)
	for m, d := range p.RetryAfter {
		wait[m] = d.Round(time.Second).String()
	}
	return append(lines, lineOfCells("retry_after", "-", wait))
}

func lineOfCells[Cell ~string](name, normal string, given map[mode.Mode]Cell) matrixLine {
	line := matrixLine{name, normal}
	for _, m := range mode.Degraded() {
		line = append(line, string(given[m]))
	}
	return line
}
