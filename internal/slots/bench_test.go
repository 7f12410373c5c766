package slots_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/slots"
)

// benchMembers are processes that have come to rest under a limit of 64.
func benchMembers(b *testing.B, n int) []*slots.Lease {
	b.Helper()
	pool := pgtest.New(b)
	members := make([]*slots.Lease, n)
	for i := range members {
		members[i] = &slots.Lease{
			Dependency: dependency, Holder: fmt.Sprintf("member-%02d", i), Default: 64,
			CallTimeout: callTimeout, Pool: pool, Log: slog.New(slog.DiscardHandler),
			Now:   time.Now, //nolint:forbidigo // a real lease
			InUse: func() int { return 0 }, Apply: func(int, time.Time) {},
		}
		if err := members[i].PrepareOnce(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	for range 4 {
		for _, m := range members {
			if err := m.TickOnce(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	return members
}

// BenchmarkTick is one tick of one of the members, one after the other.
func BenchmarkTick(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprint("members=", n), func(b *testing.B) {
			members, i := benchMembers(b, n), 0
			for b.Loop() {
				if err := members[i%n].TickOnce(b.Context()); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// BenchmarkAllTickAtOnce is one tick of every member over eight connections, as after an outage.
func BenchmarkAllTickAtOnce(b *testing.B) {
	for _, n := range []int{8, 64} {
		b.Run(fmt.Sprint("members=", n), func(b *testing.B) {
			members := benchMembers(b, n)
			for b.Loop() {
				var group errgroup.Group
				for _, m := range members {
					group.Go(func() error { return m.TickOnce(b.Context()) })
				}
				if err := group.Wait(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
