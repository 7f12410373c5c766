package webhook_test

import (
	"context"
	"encoding/binary"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/webhook"
)

// rebound resolves every name to 127.0.0.1.
func rebound(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			end := 12 // of the one question, which has no compression
			for buf[end] != 0 {
				end += 1 + int(buf[end])
			}
			end += 5
			reply := []byte{buf[0], buf[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}
			reply = append(reply, buf[12:min(end, n)]...)
			if binary.BigEndian.Uint16(buf[end-4:]) == 1 {
				reply[7] = 1
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1)
			}
			_, _ = conn.WriteTo(reply, from)
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func TestANameThatLeadsInsideIsNotCalled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, always(200))
	e := b.create(t, webhook.New{URL: "https://rebinding.example" + r.url[len("http://127.0.0.1"):]})
	b.deliver(t, func(d *webhook.Deliverer) { d.Development, d.Resolver = false, rebound(t) })
	b.happen(t, b.series(1)...)
	b.eventually(t, e.ID, func(e webhook.Endpoint) bool { return e.LastError == "its address is not public" })
	attempt := b.attempts(t, e.ID)[0]
	require.Equal(t, []any{"blocked", 0, "its address is not public"},
		[]any{attempt.Outcome, attempt.Status, attempt.Error})
	require.Empty(t, r.requests())
}
