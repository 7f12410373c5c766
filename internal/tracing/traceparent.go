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
	version, versionErr := hex.DecodeString(lower(parts[0]))
	flags, flagsErr := hex.DecodeString(lower(parts[3]))
	traceID, traceErr := trace.TraceIDFromHex(parts[1])
	spanID, spanErr := trace.SpanIDFromHex(parts[2])
	if versionErr != nil || flagsErr != nil || traceErr != nil || spanErr != nil || len(version) != 1 {
		return none
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: spanID, Remote: true,
		TraceFlags: trace.TraceFlags(flags[0]) & trace.FlagsSampled,
	})
}

// lower makes digits that are not written in small letters unreadable: the standard knows no others.
func lower(digits string) string {
	if strings.ToLower(digits) != digits {
		return ""
	}
	return digits
}
