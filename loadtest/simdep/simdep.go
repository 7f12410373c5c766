// Package simdep is the dependencies of Holdfast, risk, notifications and the payout rail, as a real HTTP
// server with knobs: slow, failing, hanging, resetting, at its capacity, or acting and then losing the
// reply.
//
// It is well made where it is not told otherwise: the same effect key gets the same reply and has
// one effect. What it saw is in its journal, from its own side of the wire, so that a test can
// compare what callers believe with what happened. It keeps nothing on disk and checks no sign-in.
//
// The rail pays a reference at once or later, as pending, and may then call back. A withdrawal is a fence
// and is honoured whatever the knobs say: nothing is paid under a withdrawn reference, also not by a
// submission that arrives after it.
//
// Invariants: the fate of a call follows from seed, effect key and the number of the call under
// that key, never from the order in which keys arrive; a caller who leaves does not undo the effect of a
// call that is being served; what a call leaves behind, a pending payout or a callback, ends with Close.
package simdep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"example.com/holdfast/internal/bulkhead"
)

const (
	defaultAddr       = "127.0.0.1:0"
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	shutdownMax       = time.Second
)

// Options start a server; the zero value is a perfect dependency on a free local port.
type Options struct {
	Addr         string // host:port, empty for a free port of 127.0.0.1
	Knobs        Knobs
	JournalLimit int          // effect keys remembered, 0 for DefaultJournalLimit
	Log          *slog.Logger // gets every request and callback at debug level; nil: nobody

	// Now dates callbacks; nil is the wall clock, which is what their receivers compare with.
	Now func() time.Time
}

// Server is a running dependency. Make it with Start.
type Server struct {
	url     string
	turning sync.Mutex // keeps knobs and places together
	knobs   atomic.Pointer[Knobs]
	places  *bulkhead.Bulkhead // as many as the capacity
	journal *journal
	chores  *chores
	caller  caller // calls back
	log     *slog.Logger
	closing <-chan struct{} // closed when the server ends; handlers may outlive their callers
	cancel  context.CancelFunc
	http    *http.Server
	buffers sync.Pool // of *bytes.Buffer
	served  chan error
	stopped chan struct{}
	err     error // why serving ended, if not by Close; read after stopped
}

// Start listens and serves until Close or the end of ctx.
func Start(ctx context.Context, options Options) (*Server, error) {
	if err := options.Knobs.Validate(); err != nil {
		return nil, fmt.Errorf("simdep: %w", err)
	}
	if options.JournalLimit < 0 {
		return nil, fmt.Errorf("simdep: journal limit %d is negative", options.JournalLimit)
	}
	if options.Addr == "" {
		options.Addr = defaultAddr
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", options.Addr)
	if err != nil {
		return nil, fmt.Errorf("simdep: %w", err)
	}
	work, cancel := context.WithCancel(ctx)
	s := &Server{
		url:     "http://" + listener.Addr().String(),
		places:  newPlaces(options.Knobs),
		journal: newJournal(options.JournalLimit),
		chores:  &chores{ctx: work},
		caller:  newCaller(options.Now),
		log:     options.Log,
		served:  make(chan error, 1),
		stopped: make(chan struct{}),
	}
	s.buffers.New = newBuffer
	s.knobs.Store(&options.Knobs)
	s.closing, s.cancel = work.Done(), cancel
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		BaseContext:       func(net.Listener) context.Context { return work },
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() { s.served <- s.http.Serve(listener) }()
	context.AfterFunc(work, func() { s.shutdown(context.WithoutCancel(work)) })
	return s, nil
}

// URL is the base URL, without a slash at the end.
func (s *Server) URL() string { return s.url }

// Knobs returns the knobs in force.
func (s *Server) Knobs() Knobs { return *s.knobs.Load() }

// SetKnobs replaces all knobs for the calls from now on, or refuses with every problem at once. A payout
// that is pending keeps those it was submitted under; the capacity changes at once.
func (s *Server) SetKnobs(knobs Knobs) error {
	if err := knobs.Validate(); err != nil {
		return err
	}
	s.turn(&knobs)
	return nil
}

// turn puts valid knobs into force.
func (s *Server) turn(knobs *Knobs) {
	s.turning.Lock()
	defer s.turning.Unlock()
	s.knobs.Store(knobs)
	s.places.SetLimit(knobs.places(), time.Time{})
}

// Journal returns the counts of this moment.
func (s *Server) Journal() Journal { return s.snapshot(0) }

func (s *Server) snapshot(keys int) Journal {
	journal := s.journal.snapshot(keys)
	journal.Queued = s.places.Stats().Waiting
	return journal
}

// Entry returns what happened under one effect key, or false if the journal does not know it.
func (s *Server) Entry(key string) (Entry, bool) { return s.journal.entry(key) }

// Close stops the server, ends the calls that it holds and waits for it. What is pending stays so.
func (s *Server) Close() error {
	s.cancel()
	<-s.stopped
	return s.err
}

// shutdown runs once, when closing is closed, which releases the handlers that wait or hold.
func (s *Server) shutdown(ctx context.Context) {
	defer close(s.stopped)
	ctx, cancel := context.WithTimeout(ctx, shutdownMax)
	defer cancel()
	_ = s.http.Shutdown(ctx) // what is left after shutdownMax is cut off by Close
	_ = s.http.Close()
	s.chores.close()
	s.caller.transport.CloseIdleConnections()
	if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
		s.err = fmt.Errorf("simdep: %w", err)
	}
}
