package tracing

import (
	"encoding/hex"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// How a traceparent looks: a version, a trace, a span and flags, as hexadecimal digits with dashes between.
const (
	versionChars = 2
	flagsChars   = 2
	// knownChars is the length of version 00. Later ones begin alike, and may go on after a dash.
	knownChars = 55
	known      = "00"
	forbidden  = "ff"
)

// traceparent is the text for a span that is recorded, or "".
func traceparent(span trace.Span) string {
	if !span.IsRecording() {
		return ""
	}
	c := span.SpanContext()
	return known + "-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + c.TraceFlags().String()
}

// read is the span that a traceparent names, or an invalid one.
func read(text string) trace.SpanContext {
	var none trace.SpanContext
	if len(text) < knownChars {
		return none
	}
	parts := strings.SplitN(text, "-", 5)
	if len(parts) < 4 || len(parts[0]) != versionChars || len(parts[3]) != flagsChars {
		return none
	}
	if parts[0] == forbidden || parts[0] == known && len(text) != knownChars {
		return none
	}
	version, flags := digits(parts[0]), digits(parts[3])
	traceID, traceErr := trace.TraceIDFromHex(parts[1])
	spanID, spanErr := trace.SpanIDFromHex(parts[2])
	if version == nil || flags == nil || traceErr != nil || spanErr != nil {
		return none
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: spanID, Remote: true,
		TraceFlags: trace.TraceFlags(flags[0]) & trace.FlagsSampled,
	})
}

// digits reads a number in small hexadecimal digits, the only ones there are; nil if it is none.
func digits(text string) []byte {
	number, err := hex.DecodeString(text)
	if err != nil || strings.ToLower(text) != text {
		return nil
	}
	return number
}
