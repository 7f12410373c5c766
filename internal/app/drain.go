package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"example.com/holdfast/internal/config"
)

const (
	// lastWordsMax is the part of the drain bound that is kept for a service that overran its own: the
	// process ends within the bound all the same.
	lastWordsMax = 500 * time.Millisecond
	// cutMargin is how long before its bound a service cuts off what is still in hand. In that time the work
	// is given back and the instance leaves the list of the living.
	cutMargin = 3 * time.Second
)

// UntilSignal is a context that ends with the first SIGTERM or Ctrl-C. The second one ends the process at
// once.
func UntilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// Service runs between Start and Stop.
type Service interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Drainer is a service that says to load balancers that its end is near, and goes on meanwhile.
type Drainer interface{ Drain() }

// Run starts services in order, waits for ctx to end, and stops what was started in the opposite order.
// Before that all of them say that they are not ready, and serve for the grace. It returns nil if everything
// that was in hand was finished or given back within the bound.
func Run(ctx context.Context, drain config.Drain, services ...Service) error {
	started, err := startAll(ctx, services)
	if err != nil {
		return errors.Join(err, stopAll(ctx, drain.Max, started))
	}
	<-ctx.Done()
	for _, s := range started {
		if d, ok := s.(Drainer); ok {
			d.Drain()
		}
	}
	if drain.Grace > 0 {
		<-time.After(drain.Grace)
	}
	return stopAll(ctx, drain.Max, started)
}

func startAll(ctx context.Context, services []Service) ([]Service, error) {
	var started []Service
	for _, s := range services {
		if err := s.Start(ctx); err != nil {
			return started, err
		}
		started = append(started, s)
	}
	return started, nil
}

// stopAll does not wait longer than the bound, also for a service that does not keep to it.
func stopAll(ctx context.Context, drainMax time.Duration, started []Service) error {
	late := fmt.Errorf("drain took longer than %s", drainMax)
	bound, cancelBound := context.WithTimeoutCause(context.WithoutCancel(ctx), drainMax, late)
	defer cancelBound()
	own, cancelOwn := context.WithTimeoutCause(bound, drainMax-min(lastWordsMax, drainMax/4), late)
	defer cancelOwn()
	stopped := make(chan error, 1)
	go func() { // its owner waits no longer than the process lives
		var errs []error
		for _, s := range slices.Backward(started) {
			errs = append(errs, s.Stop(own))
		}
		stopped <- errors.Join(errs...)
	}()
	select {
	case err := <-stopped:
		return err
	case <-bound.Done():
		return late
	}
}

// beforeCut is the part of a service's time in which it finishes what is in hand.
func beforeCut(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	left := time.Until(deadline)
	return context.WithTimeout(ctx, left-min(cutMargin, left/2))
}

// untilEnd lets a wait end when ending does: who waits gets what there is by then.
func untilEnd[Ref, T any](
	ending context.Context, wait func(context.Context, Ref, time.Duration) (T, error),
	get func(context.Context, Ref) (T, error),
) func(context.Context, Ref, time.Duration) (T, error) {
	return func(ctx context.Context, ref Ref, most time.Duration) (T, error) {
		waiting, cancel := context.WithCancel(ctx)
		defer cancel()
		stop := context.AfterFunc(ending, cancel)
		defer stop()
		out, err := wait(waiting, ref, most)
		if err != nil && ending.Err() != nil && ctx.Err() == nil {
			return get(ctx, ref)
		}
		return out, err
	}
}
