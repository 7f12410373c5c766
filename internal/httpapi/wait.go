package httpapi

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.com/holdfast/internal/budget"
)

// waitMax is the longest wait that Prefer may ask for.
const waitMax = 30 * time.Second

// awaited reads what ref names: after its end if the client prefers to wait and there is room for one
// more who waits, or else at once. The text is what Preference-Applied says.
func awaited[R, T any](
	ctx context.Context, s *shared, ref R,
	get func(context.Context, R) (T, error), wait func(context.Context, R, time.Duration) (T, error),
) (T, string, error) {
	most := preferredWait(callOf(ctx).header.Get("Prefer"))
	if left, ok := budget.Remaining(ctx, s.cfg.Now()); ok {
		most = min(most, budget.HandOn(left))
	}
	if most <= 0 || !s.waiting.enter(s.cfg.WaitersMax) {
		out, err := get(ctx, ref)
		return out, "", err
	}
	defer s.waiting.leave()
	out, err := wait(ctx, ref, most)
	return out, fmt.Sprintf("wait=%d", int((most+time.Second-1)/time.Second)), err
}

// preferredWait reads wait=N from a Prefer header (RFC 7240); what it cannot read it ignores, as that
// RFC says.
func preferredWait(header string) time.Duration {
	for preference := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(preference), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		n, err := strconv.Atoi(strings.Trim(strings.TrimSpace(value), `"`))
		if err != nil || n < 0 {
			return 0
		}
		return min(time.Duration(min(n, int(waitMax/time.Second)))*time.Second, waitMax)
	}
	return 0
}
