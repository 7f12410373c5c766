package broker_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/broker"
	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/condition"
)

func withoutJetStream(o *server.Options) { o.JetStream = false }

func withPassword(o *server.Options) { o.Username, o.Password = "holdfast", "secret" }

// nowhere is the URL of a server that is not there.
func nowhere(t *testing.T) string {
	t.Helper()
	s := newServer(t, withoutJetStream)
	s.stop()
	return s.url()
}

func TestEveryWrongSettingIsToldAtOnce(t *testing.T) {
	t.Parallel()
	err := refused(t, "nats://u:secret@h:port,http://u:secret@h", func(c *broker.Config) {
		c.Stream, c.CredsFile, c.Log = "HOLD FAST", filepath.Join(t.TempDir(), "gone"), nil
	})
	for _, part := range []string{"URL", "HOLD FAST", "Log must be set", "gone: "} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), "secret")
	for _, url := range []string{"", "127.0.0.1:4222", "nats://", "nats://h,", "u:secret@h:4222"} {
		err := refused(t, url)
		require.ErrorContains(t, err, "URL")
		require.NotContains(t, err.Error(), "secret")
	}
}

// credentials hold a key of nobody.
const credentials = `-----BEGIN NATS USER JWT-----
e30.e30.e30
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
SUAC4UBFVNQPIRFHLQ6CZZ4JYXZ6LNJB6SL4PPWO4EYAUAREQMQ5ZN5N4I
------END USER NKEY SEED------
`

func TestACredentialsFileIsReadBeforeItIsNeeded(t *testing.T) {
	t.Parallel()
	url := nowhere(t)
	file := filepath.Join(t.TempDir(), "creds")
	with := func(c *broker.Config) { c.CredsFile = file }
	require.NoError(t, os.WriteFile(file, []byte("nothing of use"), 0o600))
	require.ErrorContains(t, refused(t, url, with), file)
	require.NoError(t, os.WriteFile(file, []byte(credentials), 0o600))
	require.False(t, connect(t, url, with).Healthy())
}

func TestAServerThatIsAwayIsNoError(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.stop()
	b := connect(t, s.url())
	messages := history(aggregates(1)[0], 1)
	require.Equal(t, []condition.Active{
		{Condition: condition.BrokerAway, Subject: "nats", Since: began},
	}, b.Conditions())
	b.clock.pass(time.Minute)
	require.ErrorContains(t, b.Publish(t.Context(), messages), "away")
	require.Equal(t, began, b.Conditions()[0].Since)
	require.Zero(t, b.Pending())

	s.start(t)
	require.Eventually(t, func() bool { return b.log.count("broker is there") == 1 }, waitMax, look)
	require.Equal(t, 1, b.log.count("broker is away"), "%s", b.log.text.String())
	require.Equal(t, began.Add(time.Minute), b.Conditions()[0].Since, "it has not taken anything yet")
	require.NoError(t, b.Publish(t.Context(), messages))
	require.True(t, b.Healthy())
	require.Equal(t, []string{messages[0].ID}, s.storedIDs(t))
}

func TestNothingIsKeptForAServerThatComesBack(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	b := connect(t, s.url())
	of := aggregates(2)
	require.NoError(t, b.Publish(t.Context(), history(of[0], 1)))
	s.stop()
	b.becomesUnhealthy(t)
	require.Error(t, b.Publish(t.Context(), history(of[1], 1)))
	require.Error(t, b.SendAnyway(message(of[1], 1)), "a server may go between the look and the sending")
	s.start(t)
	require.Eventually(t, func() bool { return b.log.count("broker is there") == 2 }, waitMax, look)
	require.NoError(t, b.Publish(t.Context(), history(of[0], 2)))
	require.Equal(t, []string{message(of[0], 1).ID, message(of[0], 2).ID}, s.storedIDs(t))
}

func TestAServerThatRefusesUsIsAnErrorAtTheStart(t *testing.T) {
	t.Parallel()
	s := newServer(t, withPassword)
	err := refused(t, "nats://holdfast:wrong@"+s.url()[len("nats://"):])
	require.ErrorContains(t, err, "Authorization Violation")
	require.NotContains(t, err.Error(), "wrong")
	connect(t, "nats://holdfast:secret@"+s.url()[len("nats://"):]).becomesHealthy(t)
}

func TestAServerThatRefusesUsLaterIsAskedForEver(t *testing.T) {
	t.Parallel()
	s := newServer(t, withPassword)
	b := connect(t, "nats://holdfast:secret@"+s.url()[len("nats://"):])
	b.becomesHealthy(t)
	s.stop()
	s.options.Password = "another"
	s.start(t)
	// By itself nats.go gives up after the second refusal.
	require.Eventually(t, func() bool { return b.Reconnects() > 3 }, waitMax, look)
	require.False(t, b.Healthy())
	require.Equal(t, 1, b.log.count("broker complains"))
	s.stop()
	s.options.Password = "secret"
	s.start(t)
	b.becomesHealthy(t)
}

func TestAComplaintAboutEachMessageIsLoggedOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "holdfast", Password: "secret", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"holdfast.>"}},
		}}}
	})
	b := connect(t, "nats://holdfast:secret@"+s.url()[len("nats://"):])
	of := aggregates(3)
	messages := []cloudevent.Message{message(of[0], 1), message(of[1], 1), message(of[2], 1)}
	messages[1].Type, messages[2].Type = "thing.ended", "thing.lost" // each is another complaint
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Publish(ctx, messages) }()
	require.Eventually(t, func() bool { return b.log.count("broker complains") > 0 }, waitMax, look)
	require.Eventually(t, func() bool { return strings.Contains(b.LastError(), "thing.lost") }, waitMax, look)
	cancel()
	require.Error(t, <-done)
	b.Close() // after it nothing is logged any more
	require.Equal(t, 1, b.log.count("broker complains"))
}

func TestAConnectionThatTheServerEndsForGoodIsMadeAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := newWire(t, s)
	b := connect(t, w.url())
	messages := history(aggregates(1)[0], 2)
	require.NoError(t, b.Publish(t.Context(), messages[:1]))
	w.say(t, "-ERR 'Maximum Payload Violation'\r\n")
	b.becomesUnhealthy(t)
	require.Eventually(t, func() bool { return b.Publish(t.Context(), messages) == nil }, waitMax, look)
	b.becomesHealthy(t)
	require.Equal(t, 1, b.log.count("Maximum Payload Violation"))
	require.Equal(t, []string{messages[0].ID, messages[1].ID}, s.storedIDs(t))
}

func TestTheStreamIsMadeIfThereIsNone(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	connect(t, s.url())
	stream, err := s.jetStream(t).Stream(t.Context(), streamName)
	require.NoError(t, err)
	made := stream.CachedInfo().Config
	require.Equal(t, []string{"holdfast.events.>"}, made.Subjects)
	require.Equal(t, jetstream.FileStorage, made.Storage)
	require.Equal(t, jetstream.LimitsPolicy, made.Retention)
	require.Equal(t, 7*24*time.Hour, made.MaxAge)
	require.Equal(t, 10*time.Minute, made.Duplicates)
}

func TestAStreamThatIsThereIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	js := s.jetStream(t)
	there := jetstream.StreamConfig{
		Name: streamName, Subjects: []string{"others", "holdfast.>"}, Storage: jetstream.MemoryStorage,
		MaxAge: time.Hour, Duplicates: time.Minute,
	}
	before, err := js.CreateStream(t.Context(), there)
	require.NoError(t, err)
	b := connect(t, s.url())
	require.NoError(t, b.Publish(t.Context(), history(aggregates(1)[0], 1)))
	after, err := js.Stream(t.Context(), streamName)
	require.NoError(t, err)
	require.Equal(t, before.CachedInfo().Config, after.CachedInfo().Config)
	require.Equal(t, 1, b.log.count("for a short time only"))
	require.Len(t, s.stored(t), 1)
}

func TestAStreamThatDoesNotTakeOurMessagesIsRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		there jetstream.StreamConfig
		why   string
	}{
		"some of the subjects": {
			jetstream.StreamConfig{Name: streamName, Subjects: []string{"holdfast.events.*.thing.moved"}},
			"none of which covers holdfast.events.>",
		},
		"no acknowledgments": {
			jetstream.StreamConfig{Name: streamName, Subjects: []string{"holdfast.events.>"}, NoAck: true},
			"acknowledges nothing",
		},
		"the subjects are another's": {
			jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"holdfast.events.>"}}, "overlap",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			_, err := s.jetStream(t).CreateStream(t.Context(), tt.there)
			require.NoError(t, err)
			require.ErrorContains(t, refused(t, s.url()), tt.why)
		})
	}
}

func TestAStreamThatBecomesUnfitTakesNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	b := connect(t, s.url())
	messages := history(aggregates(1)[0], 2)
	require.NoError(t, b.Publish(t.Context(), messages[:1]))
	js := s.jetStream(t)
	require.NoError(t, js.DeleteStream(t.Context(), streamName))
	other := jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"holdfast.>"}}
	_, err := js.CreateStream(t.Context(), other)
	require.NoError(t, err)
	require.ErrorContains(t, b.Publish(t.Context(), messages), "stream OTHER has taken it")
	require.ErrorContains(t, b.Publish(t.Context(), messages), "overlap")
	require.False(t, b.Healthy())
	require.NoError(t, js.DeleteStream(t.Context(), "OTHER"))
	require.Eventually(t, func() bool { // the server may still be removing the files of the first stream
		return b.Publish(t.Context(), messages) == nil
	}, 30*time.Second, 10*time.Millisecond)
	require.True(t, b.Healthy())
	require.Equal(t, []string{messages[0].ID, messages[1].ID}, s.storedIDs(t))
}

func TestAServerWithoutJetStreamMayGetIt(t *testing.T) {
	t.Parallel()
	s := newServer(t, withoutJetStream)
	b := connect(t, s.url())
	require.Equal(t, 1, b.log.count("not there yet"))
	messages := history(aggregates(1)[0], 1)
	require.ErrorContains(t, b.Publish(t.Context(), messages), "no responders")
	s.stop()
	s.options.JetStream = true
	s.start(t)
	require.Eventually(t, func() bool { return b.Publish(t.Context(), messages) == nil }, waitMax, look)
	require.Equal(t, []string{messages[0].ID}, s.storedIDs(t))
}

func TestAPatternCoversAllSubjectsOrItDoesNot(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]bool{
		"holdfast.events.>": true, "holdfast.>": true, ">": true, "*.events.>": true, "holdfast.*.>": true,
		"*.*.>": true, "*.>": true,
		"holdfast.events.*.>": false, "holdfast.events.*": false, "holdfast.events": false, "other.>": false,
		"holdfast.event.>": false, "": false, "*": false, "*.*.*": false, "holdfast.events.*.*.*": false,
	} {
		require.Equal(t, want, broker.CoversAll(pattern), pattern)
	}
}

func TestASilentServerIsAway(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	b := connect(t, "nats://"+listener.Addr().String())
	require.False(t, b.Healthy())
	require.Equal(t, 1, b.log.count("broker is away"))
}
