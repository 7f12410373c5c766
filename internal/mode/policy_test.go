package mode_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// changed is the default policy with some of its text replaced: old, new, old, new.
func changed(t *testing.T, pairs ...string) (*mode.Policy, error) {
	t.Helper()
	text := string(mode.DefaultText)
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(t, text, pairs[i])
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return mode.Parse([]byte(text))
}

// policyWith is a valid one of that kind.
func policyWith(t *testing.T, pairs ...string) *mode.Policy {
	t.Helper()
	p, err := changed(t, pairs...)
	require.NoError(t, err)
	return p
}

func TestTheDefaultPolicyIsThatOfTheDesign(t *testing.T) {
	t.Parallel()
	p, err := mode.Load("")
	require.NoError(t, err)
	require.Equal(t, mode.Auto, p.Control)
	require.Equal(t, 3, p.EnterAfter)
	require.Equal(t, 12, p.LeaveAfter)
	require.Equal(t, time.Minute, p.Dwell)
	require.Equal(t, mode.Defer, p.Flows[mode.Notifications][mode.Constrained])
	require.Equal(t, mode.Defer, p.Flows[mode.Webhooks][mode.Constrained])
}

func TestAPolicyIsReadFromItsFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	_, err := mode.Load(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, mode.DefaultText, 0o600))
	p, err := mode.Load(path)
	require.NoError(t, err)
	same, err := mode.Load("")
	require.NoError(t, err)
	require.Equal(t, same.Hash(), p.Hash())
	require.NoError(t, os.WriteFile(path, make([]byte, 65<<10), 0o600))
	_, err = mode.Load(path)
	require.ErrorContains(t, err, "larger than")
}

func TestAHashIsOfWhatAPolicySays(t *testing.T) {
	t.Parallel()
	p := policyWith(t)
	require.Len(t, p.Hash(), 64)
	require.Equal(t, p.Hash(), policyWith(t, "dwell: 60s", "dwell: 1m # a comment").Hash())
	require.NotEqual(t, p.Hash(), policyWith(t, "dwell: 60s", "dwell: 61s").Hash())
	other := policyWith(t, "order_age_seconds: {enter: 60,", "order_age_seconds: {enter: 61,")
	require.NotEqual(t, p.Hash(), other.Hash())
}

func TestEveryProblemOfAPolicyIsToldAtOnce(t *testing.T) {
	t.Parallel()
	_, err := changed(t,
		"control: auto", "control: pinned",
		"sample_every: 5s", "sample_every: 5ms",
		"enter_after: 3", "enter_after: 0",
		"leave_after: 12", "leave_after: -1",
		"dwell: 60s", "dwell: 2h",
		"transfer_age_seconds: {enter: 5, leave: 2}", "transfer_age_seconds: {enter: 5, leave: 6}",
		"saturation: {enter: 0.95, leave: 0.7}", "sturation: {enter: 0.95, leave: 0.7}",
		"amplification: {enter: 3, leave: 2}", "amplification: {enter: 1, leave: 0.5}",
		"create_transfer: {constrained: all,", "create_transfer: {constrained: critical,",
		"create_order: {constrained: all, protection: standard, frozen: critical}",
		"create_order: {constrained: all}",
		"create_other: {constrained: all, protection: critical,",
		"create_other: {constrained: all, protection: nobody,",
		"change: {constrained: all,", "settle: {constrained: all,",
		"list: {constrained: all,", "list: {constrained: some, normal: all,",
		"notifications: {constrained: defer,", "notifications: {constrained: drop,",
		"webhooks:", "risk_api:",
		"from: 0.1", "from: 0",
		"within: 60s", "within: 2h",
		"frozen: 30s}", "frozen: 30ms}")
	for _, part := range []string{
		"control: \"pinned\"", "sample_every: has to be", "enter_after: has to be", "leave_after: has to be",
		"dwell: has to be", "levels.constrained.transfer_age_seconds: leave",
		"levels.constrained.sturation: is none of the signals",
		"levels.protection.amplification: has to be above",
		"requests.create_transfer: protection lets more pass", "requests.create_order.protection: is missing",
		"requests.create_order.frozen: is missing", "requests.create_other: critical traffic passes",
		"requests.change: is missing", "requests.settle: is none of", "requests.list.constrained: \"some\"",
		"requests.list.normal: is none of the modes", "flows.notifications.constrained: \"drop\"",
		"flows.webhooks: is missing", "flows.risk_api: is none of", "catch_up.from: has to be",
		"catch_up.within: has to be", "retry_after.frozen: has to be",
	} {
		require.ErrorContains(t, err, part)
	}
}

func TestATextThatIsNoPolicyIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"empty":            {"", "cannot be read"},
		"no YAML":          {"a: [", "cannot be read"},
		"another document": {"- 1", "cannot unmarshal"},
		"an unknown name":  {string(mode.DefaultText) + "\nwhatever: 1\n", "whatever not found"},
		"a name twice":     {string(mode.DefaultText) + "\ndwell: 1m\n", "already defined"},
		"no duration": {
			strings.Replace(string(mode.DefaultText), "dwell: 60s", "dwell: long", 1), "cannot unmarshal",
		},
	} {
		_, err := mode.Parse([]byte(c.text))
		require.ErrorContains(t, err, c.want, name)
	}
}

func TestAPolicySaysWhichTrafficPasses(t *testing.T) {
	t.Parallel()
	all := []tenancy.Class{tenancy.Critical, tenancy.Standard, tenancy.Sheddable}
	for _, c := range []struct {
		mode mode.Mode
		work mode.Work
		pass []tenancy.Class
	}{
		{mode.Normal, mode.CreateTransfer, all},
		{mode.Constrained, mode.CreateTransfer, all},
		{mode.Protection, mode.CreateTransfer, all[:2]},
		{mode.Protection, mode.CreateOther, all[:1]},
		{mode.Protection, mode.Change, all},
		{mode.Frozen, mode.Change, all[:1]},
		{mode.Frozen, mode.List, all},
	} {
		current := mode.Following(policyWith(t), c.mode)
		for _, class := range all {
			err := current.Check(c.work, class)
			if slices.Contains(c.pass, class) {
				require.NoError(t, err, "%s in %s by %s", c.work, c.mode, class)
				continue
			}
			require.True(t, problem.Is(err, problem.RefusedByMode), "%s in %s by %s", c.work, c.mode, class)
		}
	}
}

func TestThoseWhoAreRefusedTogetherDoNotComeBackTogether(t *testing.T) {
	t.Parallel()
	current := mode.Following(policyWith(t), mode.Frozen)
	waits := make(map[time.Duration]bool)
	for range 100 {
		wait := problem.Of(current.Check(mode.CreateTransfer, tenancy.Standard)).RetryAfter
		require.GreaterOrEqual(t, wait, 15*time.Second)
		require.Less(t, wait, 45*time.Second)
		waits[wait] = true
	}
	require.Greater(t, len(waits), 50)
}

func TestWhatWasDeferredComesBackInSteps(t *testing.T) {
	t.Parallel()
	p := policyWith(t)
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		before, now mode.Mode
		after       time.Duration
		want        float64
	}{
		{mode.Normal, mode.Normal, 0, 1},
		{mode.Normal, mode.Constrained, time.Hour, 0},
		{mode.Constrained, mode.Protection, 0, 0},
		{mode.Constrained, mode.Normal, 0, 0.1},
		{mode.Constrained, mode.Normal, 14 * time.Second, 0.1},
		{mode.Constrained, mode.Normal, 15 * time.Second, 0.325},
		{mode.Constrained, mode.Normal, 30 * time.Second, 0.55},
		{mode.Constrained, mode.Normal, 59 * time.Second, 0.775},
		{mode.Constrained, mode.Normal, time.Minute, 1},
		{mode.Protection, mode.Frozen, time.Second, 0.1},
		{mode.Frozen, mode.Normal, 0, 1},
	} {
		s := mode.State{Mode: c.now, Before: c.before, Since: at}
		require.InDelta(t, c.want, p.Share(mode.Notifications, s, at.Add(c.after)), 1e-9,
			"%s after %s for %s", c.now, c.before, c.after)
	}
	s := mode.State{Mode: mode.Constrained, Before: mode.Normal, Since: at}
	require.InDelta(t, 1.0, p.Share(mode.Broker, s, at), 0, "the broker runs on")
	at0 := policyWith(t, "within: 60s", "within: 0s")
	s = mode.State{Mode: mode.Normal, Before: mode.Constrained, Since: at}
	require.InDelta(t, 1.0, at0.Share(mode.Notifications, s, at), 0, "a policy may have it all at once")
}
