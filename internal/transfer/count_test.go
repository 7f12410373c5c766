package transfer

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyReasonsOfTheProgramAreCounted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state        State
		reason, want string
	}{
		{Settled, "", ""},
		{Settled, ReasonRiskUnavailable, ReasonRiskUnavailable},
		{Blocked, "looks odd", ""},
		{Canceled, "ordered twice", ""},
		{Expired, ReasonDeadline, ReasonDeadline},
		{Failed, ReasonPayoutRefused, ReasonPayoutRefused},
	} {
		require.Equal(t, c.want, countedReason(Transfer{State: c.state, Reason: c.reason}), c.reason)
	}
}
