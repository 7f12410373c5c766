package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"example.com/holdfast/internal/config"
)

// healthMax bounds one health check: an engine that asks has given up after a few seconds.
const healthMax = 2 * time.Second

// healthCommand is the argument of api and worker that makes them ask instead of serve.
const healthCommand = "healthcheck"

var errArguments = errors.New("the only argument there is: " + healthCommand)

// AsksForHealth reads the arguments of api and worker, after the program's name. A static image has no shell
// and no curl, so the program itself asks the one that runs beside it.
func AsksForHealth(args []string) (bool, error) {
	switch {
	case len(args) == 0:
		return false, nil
	case len(args) == 1 && args[0] == healthCommand:
		return true, nil
	}
	return false, errArguments
}

// Healthcheck asks the process of the same settings whether it is ready, at its admin listener.
func Healthcheck(ctx context.Context, cfg config.Config) error {
	ctx, cancel := context.WithTimeout(ctx, healthMax)
	defer cancel()
	at, err := fromHere(cfg.AdminAddr)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/readyz", http.NoBody)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	reply, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	if err := reply.Body.Close(); err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("health check: %s answers %s", request.URL, reply.Status)
	}
	return nil
}

// fromHere is where the same machine reaches a listener, also one that listens at every address.
func fromHere(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("HOLDFAST_ADMIN_ADDR: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port), nil
}
