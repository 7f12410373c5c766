package httpapi

import (
	"bytes"
	"context"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/problem"
)

// The limits of streams. A stream has a place among streams instead of one among the requests in flight.
const (
	// streamBudget is when a stream ends by itself, so that clients spread over the instances again.
	streamBudget = 15 * time.Minute
	// streamParts is how many tenants share the streams at the least, as with tenantParts.
	streamParts = 16
	// streamRetryAfter is what a client is told to wait when there are too many streams.
	streamRetryAfter = 10 * time.Second
	// streamBeat is the longest time without a sign of life.
	streamBeat = 15 * time.Second
	// streamPage is how many events are written at once.
	streamPage = 50
	// streamLookMax bounds one look for a stream.
	streamLookMax = readBudget
	// streamWriteMax is how long a write may wait for a client that does not read.
	streamWriteMax = 5 * time.Second
	// streamResumeAfter is when a client should come back after a stream has ended.
	streamResumeAfter = time.Second
)

const (
	typeStream = "text/event-stream"
	// lastEventID is the header by which a client resumes a stream.
	lastEventID = "Last-Event-ID"
)

// wantsStream says whether a client asks for server-sent events.
func wantsStream(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		if name, params, err := mime.ParseMediaType(part); err == nil && name == typeStream {
			q, err := strconv.ParseFloat(params["q"], 64)
			return err != nil || q > 0
		}
	}
	return false
}

// asStream is the same operation for a client that asks for a stream.
func (r *route) asStream() *route {
	stream := *r
	stream.class, stream.budget, stream.needs = streams, streamBudget, 0
	stream.query = []string{"cursor", "type", "from"}
	return &stream
}

// eitherWay lets a client choose between the answer and a stream of it.
func eitherWay(answer, stream http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if wantsStream(r.Header.Get("Accept")) {
			stream(w, r)
			return
		}
		answer(w, r)
	}
}

// openStream takes a place for a stream, and gives that among the requests in flight back.
func (s *shared) openStream(_ context.Context, c *call, _ http.ResponseWriter, _ *http.Request) error {
	p := problem.New(problem.Overloaded, "Too many streams are open.")
	p.RetryAfter = streamRetryAfter
	tenant := c.tenantID
	if !s.streaming.enter(s.cfg.StreamsMax) {
		s.cfg.Metrics.Shed("streams")
		return p
	}
	if !s.streamRoom.enter(tenant) {
		s.streaming.leave()
		s.cfg.Metrics.Shed("tenant_streams")
		return p
	}
	c.aside = true
	s.inFlight.Add(-1)
	c.leave = func() {
		s.streamRoom.leave(tenant)
		s.streaming.leave()
	}
	return nil
}

// streamed is an answer that is written as it comes.
type streamed func(w http.ResponseWriter)

// VisitListEventsResponse writes the answer.
func (f streamed) VisitListEventsResponse(w http.ResponseWriter) error {
	f(w)
	return nil
}

// stream writes events as they happen until the client, this instance or the stream's time ends. What goes
// wrong after the first byte ends it too, and is told by the log line: the client comes back by itself.
func (s *shared) stream(ctx context.Context, w http.ResponseWriter, f *follower) {
	h := w.Header()
	h.Set("Content-Type", typeStream)
	h.Set("X-Accel-Buffering", "no") // a proxy that gathers would hold events back
	out := &frames{w: w, conn: http.NewResponseController(w), now: s.cfg.Now}
	out.text.WriteString("retry: " + strconv.FormatInt(streamResumeAfter.Milliseconds(), 10) + "\n")
	out.mark(f.place)
	if err := s.copyEvents(ctx, out, f); err != nil && ctx.Err() == nil {
		c := callOf(ctx)
		c.code, c.err = explain(err).Code, err
	}
	out.limit()
}

// copyEvents writes what there is, and then looks for more.
func (s *shared) copyEvents(ctx context.Context, out *frames, f *follower) error {
	for {
		if err := out.send(); err != nil {
			return err
		}
		rung := f.feed.Next(f.tenant)
		wait, err := s.fill(ctx, out, f)
		if err != nil {
			return err
		}
		if !s.pause(ctx, rung, wait) {
			return nil
		}
	}
}

// fill puts the next events into frames, or a sign of life when it is time for one, and says for how long
// there is nothing to do then.
func (s *shared) fill(ctx context.Context, out *frames, f *follower) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, streamLookMax)
	defer cancel()
	found, end, err := f.look(ctx, streamPage)
	if err != nil {
		return 0, err
	}
	messages, err := s.encode(ctx, found)
	for _, m := range messages {
		out.event(m)
	}
	wait := min(feedLookEvery, out.beat.Sub(s.cfg.Now()))
	if wait <= 0 && len(messages) == 0 {
		out.text.WriteString(": still here\n")
		out.mark(f.place)
	}
	if len(messages) > 0 || !end {
		wait = 0
	}
	return wait, err
}

// frames are written together. Each write has a deadline of its own, so that a client which does not read
// holds nothing for long.
type frames struct {
	w    http.ResponseWriter
	conn *http.ResponseController
	now  func() time.Time
	text bytes.Buffer
	// beat is when something has to be written again.
	beat time.Time
}

// event adds a message. The id is the cursor behind it.
func (f *frames) event(m cloudevent.Message) {
	f.text.WriteString("id: " + numberCursor(ofEvents, m.Place) + "\nevent: " + m.Type + "\ndata: ")
	f.text.Write(oneLine(m.Body))
	f.text.WriteString("\n\n")
}

// mark adds a place to go on from that is no event: a client remembers the id and tells its program nothing.
func (f *frames) mark(place int64) {
	f.text.WriteString("id: " + numberCursor(ofEvents, place) + "\n\n")
}

// send writes what there is, if anything.
func (f *frames) send() error {
	if f.text.Len() == 0 {
		return nil
	}
	f.beat = f.now().Add(streamBeat)
	f.limit()
	_, err := f.w.Write(f.text.Bytes())
	f.text.Reset()
	if err == nil {
		err = f.conn.Flush()
	}
	if err == nil {
		// One that passes between two writes would end an HTTP/2 stream for good.
		_ = f.conn.SetWriteDeadline(time.Time{})
	}
	return err
}

// limit sets the deadline of what is written next. Where the connection has no deadlines (a test without a
// server) there is nothing to wait for.
func (f *frames) limit() { _ = f.conn.SetWriteDeadline(f.now().Add(streamWriteMax)) }

// oneLine is JSON without line ends, which there are white space.
func oneLine(text []byte) []byte {
	if !bytes.ContainsAny(text, "\r\n") {
		return text
	}
	return bytes.Map(func(r rune) rune {
		if r == '\r' || r == '\n' {
			return ' '
		}
		return r
	}, text)
}
