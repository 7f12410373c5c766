// Package broker publishes messages to a stream of NATS JetStream, where other programs read them.
//
// Publish is made for outbox.Sink: after nil the stream has every message, after an error the sink hands all
// of them in again. The sink alone tries again. What nats.go could do by itself is switched off: while the
// server is away publishing fails at once, nothing is kept to be sent later, no message is sent twice by one
// call, and no acknowledgment is waited for without a bound. The package refuses to be called inside a
// transaction, to send what is out of order, and to change a stream that is there.
//
// A message is not sent before the one before it of the same aggregate is acknowledged. Side by side, a1
// could get lost and a2 be stored; handed in again, a1 would be stored and a2 dropped as a duplicate, and
// every consumer would see them the wrong way round. So a call goes in waves: first the first message of each
// aggregate, side by side; when all of them are acknowledged, the second of each; and so on. A wave with a
// failure ends the call.
//
// Invariants: the stream has the messages of an aggregate in the order of seq. It has a message once if all
// attempts at it fall into duplicatesWindow; after a longer outage it may come again, under the same id.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// connectMax bounds an attempt to connect to one server, and the first look at the stream.
	connectMax = 2 * time.Second
	// reconnectEvery is the pause after all servers were tried.
	reconnectEvery = 500 * time.Millisecond
	// pingEvery and pingsOut are how a connection is noticed over which nothing comes any more: after 15 s.
	pingEvery = 5 * time.Second
	pingsOut  = 2
	// writeMax bounds a write to the connection, which nats.go does under its lock and without a context.
	// With two of them a Publish that is out of time still ends within the lease of a sink.
	writeMax = 500 * time.Millisecond
	// keepNothing is how many bytes are kept while the server is away: a negative number is none.
	keepNothing = -1
	// forEver is how often nats.go tries to connect again.
	forEver = -1
)

// streamName is what a stream may be called.
var streamName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// Config describes the broker.
type Config struct {
	// URL is that of a server, or those of several, separated by commas. It may hold user and password, so
	// no error shows it.
	URL string
	// Stream is the name of the stream; it is made if there is none.
	Stream string
	// CredsFile is the path of a credentials file, or empty. It is read again for every connection.
	CredsFile string
	// Name is the connection's, for the lists of the server.
	Name string
	// InTx tells whether a context belongs to an open transaction.
	InTx func(ctx context.Context) bool
	Now  func() time.Time
	Log  *slog.Logger
	// Observer is told of each Publish that tried to send; nil: nobody looks.
	Observer func(Observation)
}

// validate returns everything at once that can be known to be wrong without asking a server.
func (c Config) validate() error {
	var problems []error
	for server := range strings.SplitSeq(c.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			problems = append(problems, errors.New("a server is no nats, tls, ws or wss URL with a host"))
		}
	}
	if !streamName.MatchString(c.Stream) {
		problems = append(problems, fmt.Errorf("stream %q is no name of letters, digits, _ and -", c.Stream))
	}
	if c.InTx == nil || c.Now == nil || c.Log == nil {
		problems = append(problems, errors.New("InTx, Now and Log must be set"))
	}
	return errors.Join(append(problems, c.checkCreds())...)
}

// checkCreds does with the credentials what a connection does with them. nats.go takes a file that it cannot
// use for a server that is away.
func (c Config) checkCreds() error {
	if c.CredsFile == "" {
		return nil
	}
	var o nats.Options
	err := nats.UserCredentials(c.CredsFile)(&o)
	if err == nil {
		_, err = o.UserJWT()
	}
	if err == nil {
		_, err = o.SignatureCB(nil)
	}
	if err != nil {
		return fmt.Errorf("credentials file %s: %w", c.CredsFile, err)
	}
	return nil
}

// Broker is a connection to the broker that is made again whenever it is lost. Make it with Connect; it is
// safe for concurrent use.
type Broker struct {
	config Config
	health health

	// dialing is held while a link is made or looked up.
	dialing sync.Mutex
	link    *link
	closed  bool
}

// link is one connection of nats.go, which reconnects by itself until it is closed.
type link struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	stream streamState
	// closing says that the end is our wish.
	closing atomic.Bool
	// ended is closed when the connection will not come back.
	ended chan struct{}
}

// Connect returns a broker that connects, and connects again, for as long as it is open. A server that is
// away is no error: it is logged once and is a condition. Settings that are wrong are one, also when a server
// that answers says so: it refuses who we are, or has a stream that does not take our messages.
func Connect(ctx context.Context, config Config) (*Broker, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("settings of the broker: %w", err)
	}
	if config.Observer == nil {
		config.Observer = func(Observation) {}
	}
	b := &Broker{config: config}
	b.health = health{now: config.Now, log: config.Log, awaySince: config.Now()}
	var err error
	if b.link, err = b.dial(ctx); err != nil {
		return nil, err
	}
	if !b.link.nc.IsConnected() {
		return b, nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectMax)
	defer cancel()
	if err := b.link.ensure(ctx, config); refusedFor(err) {
		b.Close()
		return nil, err
	} else if err != nil {
		config.Log.WarnContext(ctx, "stream of the broker not there yet", slog.Any("error", err))
	}
	return b, nil
}

// Close ends the connection and waits for the end. A Publish that is under way fails.
func (b *Broker) Close() {
	b.dialing.Lock()
	defer b.dialing.Unlock()
	b.closed = true
	b.link.close()
}

func (l *link) close() {
	l.closing.Store(true)
	l.nc.Close()
	<-l.ended
}

// current returns the link. A server can end one for good, by an error that nats.go does not know: then there
// is a new one.
func (b *Broker) current(ctx context.Context) (*link, error) {
	b.dialing.Lock()
	defer b.dialing.Unlock()
	if b.closed {
		return nil, errClosed
	}
	if b.link.nc.IsClosed() {
		<-b.link.ended // so that its last words are not taken for those of the new one
		l, err := b.dial(ctx)
		if err != nil {
			return nil, err
		}
		b.link = l
	}
	return b.link, nil
}

// dial makes a link, which may be one that goes on trying. An error means that a server refused who we are.
func (b *Broker) dial(ctx context.Context) (*link, error) {
	l := &link{ended: make(chan struct{})}
	failed := make(chan error, 1)
	options := b.options(context.WithoutCancel(ctx), l, failed)
	var err error
	if l.nc, err = nats.Connect(b.config.URL, options...); err != nil {
		return nil, fmt.Errorf("connect to broker: %w", err)
	}
	l.js, err = jetstream.New(l.nc,
		jetstream.WithPublishAsyncTimeout(ackMax), jetstream.WithDefaultTimeout(ackMax))
	if err != nil {
		l.close()
		return nil, fmt.Errorf("connect to broker: %w", err)
	}
	if l.nc.IsConnected() {
		return l, nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectMax)
	defer cancel()
	select {
	case err = <-failed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if refusesUs(err) {
		l.close()
		return nil, fmt.Errorf("connect to broker: %w", err)
	}
	b.config.Log.WarnContext(ctx, brokerIsAway, slog.Any("error", err))
	return l, nil
}

// options are those of a link. failed gets the error of the first attempt.
func (b *Broker) options(ctx context.Context, l *link, failed chan<- error) []nats.Option {
	options := []nats.Option{
		nats.Name(b.config.Name),
		nats.Timeout(connectMax),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(forEver),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(reconnectEvery),
		nats.ReconnectBufSize(keepNothing),
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(pingsOut),
		nats.FlusherTimeout(writeMax),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			select {
			case failed <- err:
			default:
			}
		}),
		nats.ConnectHandler(func(*nats.Conn) { b.health.back(ctx) }),
		nats.ReconnectHandler(func(*nats.Conn) { b.health.back(ctx) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			l.stream.forget()
			b.health.gone(ctx, err)
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { b.health.told(ctx, err) }),
		nats.ClosedHandler(func(nc *nats.Conn) {
			if err := nc.LastError(); err != nil && !l.closing.Load() {
				b.health.told(ctx, err)
			}
			close(l.ended)
		}),
	}
	if b.config.CredsFile != "" {
		options = append(options, nats.UserCredentials(b.config.CredsFile))
	}
	return options
}

// refusesUs says that a server answered, and does not let us in.
func refusesUs(err error) bool {
	return slices.ContainsFunc([]error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
	}, func(refusal error) bool { return errors.Is(err, refusal) })
}
