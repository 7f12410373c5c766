package simdep_test

import (
	"math"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/loadtest/simdep"
)

func TestKnobsAreReplacedWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	server := start(t, simdep.Options{Knobs: simdep.Knobs{Seed: 1, ErrorRate: 0.5}})
	status, _ := request(t, http.MethodPut, server.URL()+"/knobs",
		`{"latency":{"distribution":"lognormal","p50_ms":5,"p99_ms":20},"hang_rate":0.1}`)
	require.Equal(t, http.StatusOK, status)
	want := simdep.Knobs{
		Latency: simdep.Latency{Distribution: simdep.LogNormal, P50: 5, P99: 20}, HangRate: 0.1,
	}
	require.Equal(t, want, server.Knobs())

	status, body := request(t, http.MethodPut, server.URL()+"/knobs", `{"error_rate":2,"decision":"maybe"}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.JSONEq(t, `{"errors":["error_rate 2 is not between 0 and 1",
		"error, hang, reset and timeout_after_success rates add up to 2, more than 1",
		"decision \"maybe\" is none of approve, review, block"]}`, body)
	status, body = request(t, http.MethodPut, server.URL()+"/knobs", `{"eror_rate":1}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "eror_rate")
	require.Equal(t, want, server.Knobs())

	status, body = request(t, http.MethodGet, server.URL()+"/knobs", "")
	require.Equal(t, http.StatusOK, status)
	again, err := simdep.ParseKnobs([]byte(body))
	require.NoError(t, err)
	require.Equal(t, want, again, "what GET shows can be PUT")
}

func TestEveryKnobProblemIsTold(t *testing.T) {
	t.Parallel()
	tests := []struct {
		knobs simdep.Knobs
		want  string
	}{
		{simdep.Knobs{HangRate: math.NaN()}, "hang_rate NaN is not between 0 and 1"},
		{simdep.Knobs{DuplicateRate: -1}, "duplicate_rate -1 is not between 0 and 1"},
		{simdep.Knobs{ErrorRate: .6, ResetRate: .6}, "add up to 1.2, more than 1"},
		{simdep.Knobs{BlockOver: -1}, "must not be negative"},
		{simdep.Knobs{BlockOver: 5, ReviewOver: 6}, "review_over 6 is above block_over 5"},
		{simdep.Knobs{Capacity: -1}, "capacity -1 must not be negative"},
		{simdep.Knobs{PayoutPendingRate: 2}, "payout_pending_rate 2 is not between 0 and 1"},
		{simdep.Knobs{PayoutRefuseRate: 2}, "payout_refuse_rate 2 is not between 0 and 1"},
		{simdep.Knobs{PayoutUnstoppableRate: 2}, "payout_unstoppable_rate 2 is not between 0 and 1"},
		{simdep.Knobs{PayoutSettle: 4e6}, "payout_settle_ms 4e+06 is not between 0 and 3.6e+06"},
		{simdep.Knobs{PayoutSettle: math.NaN()}, "payout_settle_ms NaN is not between"},
		{simdep.Knobs{PayoutRefuseOver: -1}, "payout_refuse_over -1 must not be negative"},
		{simdep.Knobs{ArriveLate: -1}, "arrive_late_ms -1 is not between 0 and 3.6e+06"},
		{simdep.Knobs{CallbackRate: 2}, "callback_rate 2 is not between 0 and 1"},
		{simdep.Knobs{CallbackRate: 1}, "callback_rate needs a callback_url"},
		{simdep.Knobs{CallbackDuplicates: 17}, "callback_duplicates 17 is not between 0 and 16"},
		{simdep.Knobs{CallbackURL: "ftp://host"}, `callback_url "ftp://host" is not an http(s) URL`},
		{simdep.Knobs{CallbackURL: "http://host"}, "callback_secret has to be 24 bytes or more"},
		{
			simdep.Knobs{CallbackURL: "http://host", CallbackSecret: "whsec_c2hvcnQ="},
			"callback_secret has to be 24 bytes or more",
		},
		{simdep.Knobs{Latency: simdep.Latency{Distribution: "pareto"}}, `distribution "pareto" is none of`},
		{simdep.Knobs{Latency: simdep.Latency{P50: 1e9}}, "latency of 1e+09 ms is not between 0 and 60000"},
		{simdep.Knobs{Latency: simdep.Latency{Distribution: "normal", P50: 2, P99: 1}}, "p99 1 ms is below"},
		{simdep.Knobs{Latency: simdep.Latency{Distribution: "lognormal"}}, "needs a p50 above 0"},
	}
	for _, tt := range tests {
		require.ErrorContains(t, tt.knobs.Validate(), tt.want)
		_, err := simdep.Start(t.Context(), simdep.Options{Knobs: tt.knobs})
		require.ErrorContains(t, err, tt.want)
	}
	_, err := simdep.Start(t.Context(), simdep.Options{JournalLimit: -1})
	require.ErrorContains(t, err, "journal limit -1")
	require.NoError(t, simdep.Knobs{}.Validate())
}
