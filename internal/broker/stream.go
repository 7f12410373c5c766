package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// subjectPrefix is what the subject of every message begins with: then come tenant and type.
	subjectPrefix = "holdfast.events"
	// subjects are those of all messages.
	subjects = subjectPrefix + ".>"
	// streamKept is how long a stream that we make keeps a message.
	streamKept = 7 * 24 * time.Hour
	// duplicatesWindow is how long a stream that we make knows the ids of messages.
	duplicatesWindow = 10 * time.Minute

	// apiRefused and apiFailed are where the codes begin of answers that will stay as they are, and of
	// those that may change.
	apiRefused = 400
	apiFailed  = 500
)

// unfitError says that the stream that is there is not one for our messages.
type unfitError struct{ stream, why string }

// Error names the stream.
func (e *unfitError) Error() string { return fmt.Sprintf("stream %s %s", e.stream, e.why) }

// refusedFor says that an error of ensure does not go away by itself.
func refusedFor(err error) bool {
	if _, unfit := errors.AsType[*unfitError](err); unfit {
		return true
	}
	api, answered := errors.AsType[*jetstream.APIError](err)
	return answered && api.Code >= apiRefused && api.Code < apiFailed
}

// streamState remembers that the stream was looked at. A server that comes back may have lost it.
type streamState struct {
	mu    sync.Mutex
	looks int // forget adds one
	fit   bool
}

func (s *streamState) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks, s.fit = s.looks+1, false
}

func (s *streamState) state() (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks, s.fit
}

// fits says that the stream was seen at a look, if nothing was forgotten since.
func (s *streamState) fits(look int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fit = s.looks == look
}

// ensure makes the stream if it is not there, and looks at the one that is.
func (l *link) ensure(ctx context.Context, config Config) error {
	look, fit := l.stream.state()
	if fit {
		return nil
	}
	stream, err := l.js.Stream(ctx, config.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = l.js.CreateStream(ctx, jetstream.StreamConfig{
			Name:        config.Stream,
			Description: "Events of Holdfast: CloudEvents in JSON",
			Subjects:    []string{subjects},
			Retention:   jetstream.LimitsPolicy,
			Storage:     jetstream.FileStorage,
			MaxAge:      streamKept,
			Duplicates:  duplicatesWindow,
		})
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // somebody was faster, with other settings
			stream, err = l.js.Stream(ctx, config.Stream)
		}
	}
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", config.Stream, err)
	}
	there := stream.CachedInfo().Config
	if err := check(there); err != nil {
		return err
	}
	if there.Duplicates < duplicatesWindow {
		config.Log.WarnContext(ctx, "stream knows the ids of messages for a short time only",
			slog.String("stream", config.Stream), slog.Duration("window", there.Duplicates),
			slog.Duration("ours", duplicatesWindow))
	}
	l.stream.fits(look)
	return nil
}

// check refuses a stream that would not take, or not acknowledge, every message of ours.
func check(there jetstream.StreamConfig) error {
	if !slices.ContainsFunc(there.Subjects, covers) {
		return &unfitError{there.Name, fmt.Sprintf("has the subjects %v, none of which covers %s",
			there.Subjects, subjects)}
	}
	if there.NoAck {
		return &unfitError{there.Name, "acknowledges nothing"}
	}
	return nil
}

// covers says that a pattern matches every subject of ours.
func covers(pattern string) bool {
	ours := strings.Split(subjects, ".")
	for i, token := range strings.Split(pattern, ".") {
		switch {
		case i == len(ours):
			return false
		case token == ">":
			return true
		case token != ours[i] && (token != "*" || ours[i] == ">"):
			return false
		}
	}
	return false // without > at its end it has subjects of one length only
}
