package outbound_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"example.com/holdfast/internal/outbound"
)

func benchServer(b *testing.B) string {
	b.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write([]byte("{}"))
	}))
	b.Cleanup(server.Close)
	return server.URL
}

// BenchmarkPlainClient is the floor: what net/http costs with a timeout, without the door.
func BenchmarkPlainClient(b *testing.B) {
	url := benchServer(b)
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	b.Cleanup(transport.CloseIdleConnections)
	benchPlain(b, &http.Client{Transport: transport}, url)
}

func benchPlain(b *testing.B, client *http.Client, url string) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte("{}")))
		if err != nil {
			b.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		reply, err := client.Do(request)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadAll(reply.Body); err != nil {
			b.Fatal(err)
		}
		_ = reply.Body.Close()
		cancel()
	}
}

func BenchmarkDo(b *testing.B) { benchDo(b, benchServer(b), nil) }

// BenchmarkDoWithoutNetwork and its control show the door's own cost.
func BenchmarkDoWithoutNetwork(b *testing.B) { benchDo(b, "http://risk.invalid", okTransport{}) }

func BenchmarkPlainClientWithoutNetwork(b *testing.B) {
	benchPlain(b, &http.Client{Transport: okTransport{}}, "http://risk.invalid")
}

func benchDo(b *testing.B, url string, transport http.RoundTripper) {
	b.Helper()
	client, err := outbound.New(outbound.Config{
		Name: "risk_api", BaseURL: url, Limit: 8, Timeout: time.Second, Transport: transport,
		InTx: func(context.Context) bool { return false },
		Now:  time.Now, //nolint:forbidigo // the clock's cost is part of the figure
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.CloseIdle)
	call := outbound.Call{
		Operation: "screen", Method: http.MethodPost, Path: "/", EffectKey: "k", Body: []byte("{}"),
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Do(b.Context(), call); err != nil {
			b.Fatal(err)
		}
	}
}

type okTransport struct{}

func (okTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, ContentLength: 2, Request: r,
		Body: io.NopCloser(bytes.NewReader([]byte("{}"))),
	}, nil
}
