package tracing

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// The standard variables that switch and direct traces.
const (
	envDisabled       = "OTEL_SDK_DISABLED"
	envExporter       = "OTEL_TRACES_EXPORTER"
	envEndpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	envTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	envProtocol       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	envTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	envService        = "OTEL_SERVICE_NAME"
	envSampler        = "OTEL_TRACES_SAMPLER"
	envSamplerArg     = "OTEL_TRACES_SAMPLER_ARG"
)

const (
	// sampledShare is the part of the requests without a traceparent that begin a trace.
	sampledShare = 0.1
	// tracesPath follows an endpoint that is for all signals.
	tracesPath = "/v1/traces"
	onlyProto  = "http/protobuf"
)

// settings are what the environment says about traces.
type settings struct {
	on bool
	// endpoint is where spans go; "" is where the exporter sends by itself: this machine.
	endpoint string
	service  string
	sampler  sdk.Sampler
}

// readSettings reports all that is wrong at once. What is off may be wrong.
func readSettings(environ []string) (settings, error) {
	vars := map[string]string{}
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		vars[name] = strings.TrimSpace(value)
	}
	exporter := vars[envExporter]
	asked := exporter != "" || vars[envEndpoint] != "" || vars[envTracesEndpoint] != ""
	if !asked || exporter == "none" || strings.EqualFold(vars[envDisabled], "true") {
		return settings{}, nil
	}
	set := settings{on: true, service: vars[envService]}
	var errs [4]error
	if exporter != "" && exporter != "otlp" {
		errs[0] = fmt.Errorf("%s: %q is neither otlp nor none", envExporter, exporter)
	}
	set.endpoint, errs[1] = endpoint(vars)
	set.sampler, errs[2] = sampler(vars)
	for _, name := range []string{envProtocol, envTracesProtocol} {
		if p := vars[name]; p != "" && p != onlyProto {
			errs[3] = fmt.Errorf("%s: %q is not %s, the only one there is", name, p, onlyProto)
		}
	}
	return set, errors.Join(errs[:]...)
}

// endpoint is the address for traces, or that for all signals with their path.
func endpoint(vars map[string]string) (string, error) {
	name, text := envTracesEndpoint, vars[envTracesEndpoint]
	if text == "" {
		name, text = envEndpoint, vars[envEndpoint]
	}
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New(name + " is not an http(s) URL with a host")
	}
	if name == envEndpoint {
		u = u.JoinPath(tracesPath)
	}
	return u.String(), nil
}

// sampler decides which traces begin, and which are followed: by default those that whoever calls has
// sampled, and sampledShare of the others.
func sampler(vars map[string]string) (sdk.Sampler, error) {
	share := sampledShare
	if text := vars[envSamplerArg]; text != "" {
		var err error
		if share, err = strconv.ParseFloat(text, 64); err != nil || !(share >= 0 && share <= 1) {
			return nil, fmt.Errorf("%s: %q is not a number from 0 to 1", envSamplerArg, text)
		}
	}
	switch name := strings.ToLower(vars[envSampler]); name {
	case "", "parentbased_traceidratio":
		return sdk.ParentBased(sdk.TraceIDRatioBased(share)), nil
	case "traceidratio":
		return sdk.TraceIDRatioBased(share), nil
	case "parentbased_always_on":
		return sdk.ParentBased(sdk.AlwaysSample()), nil
	case "parentbased_always_off":
		return sdk.ParentBased(sdk.NeverSample()), nil
	case "always_on":
		return sdk.AlwaysSample(), nil
	case "always_off":
		return sdk.NeverSample(), nil
	default:
		return nil, fmt.Errorf("%s: %q is no sampler", envSampler, name)
	}
}
