package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"example.com/holdfast/internal/httpapi"
)

// listener serves one handler on one address.
type listener struct {
	name   string
	addr   string
	log    *slog.Logger
	server *http.Server
	done   chan struct{}
}

func newListener(name, addr string, handler http.Handler, env Env) *listener {
	server := httpapi.NewServer(handler, env.Log)
	return &listener{name: name, addr: addr, log: env.Log, server: server, done: make(chan struct{})}
}

func (l *listener) start(ctx context.Context) error {
	var open net.ListenConfig
	socket, err := open.Listen(ctx, "tcp", l.addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: address %s is taken by another program; choose another one", l.name, l.addr)
	}
	if err != nil {
		return fmt.Errorf("%s: listen on %s: %w", l.name, l.addr, err)
	}
	l.addr = socket.Addr().String()
	// Requests have the values of the context, and go on after its end: a listener is drained.
	l.server.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	go func() {
		defer close(l.done)
		if err := l.server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			l.log.ErrorContext(ctx, "listener ended", slog.String("name", l.name), slog.Any("error", err))
		}
	}()
	return nil
}

func (l *listener) stop(ctx context.Context) error {
	if err := l.server.Shutdown(ctx); err != nil {
		return fmt.Errorf("%s: drain: %w", l.name, errors.Join(err, l.server.Close()))
	}
	return nil
}

// withMetrics puts /metrics beside a handler.
func withMetrics(handler http.Handler, env Env) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(env.Metrics.Registry(), promhttp.HandlerOpts{}))
	mux.Handle("/", handler)
	return mux
}
