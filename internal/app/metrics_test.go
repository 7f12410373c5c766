package app_test

import (
	"bufio"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/telemetry"
)

// aSeries is a line of a scrape: a name, labels, a value.
var (
	aSeries = regexp.MustCompile(`^(holdfast_[a-z_]+?)(_bucket|_sum|_count)?(?:\{(.*)\})? \S+$`)
	aLabel  = regexp.MustCompile(`([a-z]+)="((?:[^"\\]|\\.)*)"`)
)

// unbounded lists the labels of a scrape that the catalogue does not know, or not with that value.
func unbounded(page string) []string {
	var wrong []string
	declared := map[string]telemetry.Metric{}
	for _, m := range telemetry.New().Catalogue() {
		declared[m.Name] = m
	}
	lines := bufio.NewScanner(strings.NewReader(page))
	for lines.Scan() {
		series := aSeries.FindStringSubmatch(lines.Text())
		if series == nil {
			continue
		}
		m, known := declared[series[1]]
		if !known {
			wrong = append(wrong, series[1]+" is not declared")
		}
		for _, l := range aLabel.FindAllStringSubmatch(series[3], -1) {
			i := slices.IndexFunc(m.Labels, func(d telemetry.Label) bool { return d.Name == l[1] })
			switch {
			case l[1] == "le":
			case i < 0, m.Labels[i].Values != nil && !slices.Contains(m.Labels[i].Values, l[2]):
				wrong = append(wrong, fmt.Sprintf("%s: %s=%q", series[1], l[1], l[2]))
			case uuid.Validate(l[2]) == nil:
				wrong = append(wrong, fmt.Sprintf("%s: %s=%q identifies something", series[1], l[1], l[2]))
			}
		}
	}
	return wrong
}

func TestALabelThatIsNotDeclaredIsFound(t *testing.T) {
	t.Parallel()
	require.Empty(t, unbounded(`holdfast_promises_total{kept="true",kind="order"} 1`))
	require.Equal(t, []string{
		`holdfast_promises_total: kept="perhaps"`, `holdfast_promises_total: more="x"`,
		`holdfast_new_total is not declared`,
	}, unbounded(`holdfast_promises_total{kept="perhaps",kind="order",more="x"} 1
holdfast_new_total 1`))
	id := uuid.NewString()
	require.Len(t, unbounded(`holdfast_http_request_seconds_bucket{route="`+id+`",status="200",le="1"} 1`), 1)
}

// TestARunningSystemHasOnlyDeclaredSeries runs transfers and orders to their ends and looks at a whole
// scrape.
func TestARunningSystemHasOnlyDeclaredSeries(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	settled := fmt.Sprintf(`{"from_account":%q,"to_account":%q,"amount":{"value":125,"currency":"EUR"}}`,
		s.demo.Accounts[0], s.demo.Accounts[1])
	poor := strings.Replace(settled, "125", "999999999999", 1)
	status, text := s.call(t, http.MethodPost, "/v1/transfers", settled, "Idempotency-Key", "one")
	require.Equal(t, http.StatusAccepted, status, text)
	status, _ = s.call(t, http.MethodPost, "/v1/transfers", poor, "Idempotency-Key", "two")
	require.Equal(t, http.StatusUnprocessableEntity, status)
	order := fmt.Sprintf(`{"customer_account":%q,"merchant_account":%q,"location":"main",
		"lines":[{"sku":%q,"quantity":1}]}`, s.demo.Accounts[0], s.demo.Accounts[1], s.demo.SKUs[0])
	status, text = s.call(t, http.MethodPost, "/v1/orders", order, "Idempotency-Key", "three")
	require.Equal(t, http.StatusAccepted, status, text)
	status, _ = s.call(t, http.MethodGet, "/v1/nothing/here", "")
	require.Equal(t, http.StatusNotFound, status)
	var page string
	require.Eventually(t, func() bool {
		page = answer[string](t, s.asOperator(t, http.MethodGet, "/metrics", ""), http.StatusOK)
		return strings.Contains(page, `holdfast_promises_total{kept="true",kind="transfer"} 2`) &&
			strings.Contains(page, `holdfast_promises_total{kept="true",kind="order"} 1`) &&
			strings.Contains(page, `holdfast_ready_age_seconds`)
	}, placesWait, placesWait/1000)
	require.Empty(t, unbounded(page))
	for _, line := range []string{
		`holdfast_build_info{goversion="go1.`, `holdfast_ready_age_seconds{lane="1",queue="risk_api"} `,
		`holdfast_promise_age_seconds{kind="order"} `, `holdfast_promise_overdue{kind="transfer"} 0`,
		`holdfast_tenant_open{rank="5"} 0`,
		`holdfast_terminal_failures_total{dependency="db",reason="poison"} 0`,
		`holdfast_transfer_completion_seconds_bucket{state="settled",le="60"} 2`,
	} {
		require.Contains(t, page, line)
	}
}
