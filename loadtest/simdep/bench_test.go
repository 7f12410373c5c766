package simdep_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"example.com/holdfast/loadtest/simdep"
)

func BenchmarkScreeningInProcess(b *testing.B) {
	server, err := simdep.Start(b.Context(), simdep.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	benchScreening(b, server.RoundTripper(), server.URL())
}

func BenchmarkScreeningOverLoopback(b *testing.B) {
	server, err := simdep.Start(b.Context(), simdep.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	benchScreening(b, transport, server.URL())
}

func benchScreening(b *testing.B, transport http.RoundTripper, url string) {
	b.Helper()
	const body = `{"transfer_id":"t","tenant_id":"n","from_account":"a","to_account":"b",` +
		`"amount_value":5,"currency":"EUR"}`
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		text := strings.NewReader(body)
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url+"/v1/screenings", text)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Idempotency-Key", "transfer-"+strconv.Itoa(i))
		reply, err := transport.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, reply.Body)
		if err := reply.Body.Close(); err != nil || reply.StatusCode != http.StatusOK {
			b.Fatal(reply.Status, err)
		}
	}
}
