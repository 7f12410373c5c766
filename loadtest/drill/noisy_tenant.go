package drill

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/loadtest/simdep"
)

const (
	noisyTenants = 5
	quietRate    = 8
	noisyRate    = 50 * quietRate
	// quietFactor bounds what a noisy tenant does to a quiet one.
	quietFactor = 2
)

func noisyTenant() scenario {
	return scenario{
		name: "noisy-tenant", most: 3 * time.Minute,
		about: "one of 5 tenants sends 50 times as much as each other; they do not feel it",
		variants: []variant{{
			tenants: noisyTenants,
			play: func(ctx context.Context, s *stage) {
				s.startWorkers(ctx, 2)
				s.set(s.risk, func(k *simdep.Knobs) { k.Latency.P50 = saturatedMillis })
				var streams []stream
				for n := range noisyTenants {
					one := s.caller(n).sendsTransfers(quietRate)
					one.name = tenantName(n)
					streams = append(streams, one)
				}
				s.begin(ctx, streams...)
				s.during(ctx, "warm", time.Second)
				calm := s.during(ctx, "all send 8/s", s.long(20*time.Second))
				more := s.caller(0)
				more.prefix = "noisy-"
				loud := more.sendsTransfers(noisyRate)
				loud.name = tenantName(0)
				for n := range streams {
					streams[n] = again(streams[n])
				}
				s.begin(ctx, append(slices.Clone(streams[1:]), loud)...)
				noise := s.during(ctx, "the first sends 400/s", s.long(30*time.Second))
				s.settle(ctx)
				s.quietBeside(ctx, calm, noise)
			},
		}},
	}
}

func tenantName(n int) string { return fmt.Sprintf("tenant %d", n+1) }

// again continues a stream with keys that it has not used.
func again(s stream) stream {
	const beyond = 1_000_000
	send := s.send
	s.send = func(ctx context.Context, n int) (answer, error) { return send(ctx, beyond+n) }
	return s
}

// quietBeside claims that the quiet tenants do not feel the noise, and that it ends what it was let in with.
func (s *stage) quietBeside(ctx context.Context, calm, noise *phase) {
	let, asked := uint64(0), uint64(0)
	var quiet []uuid.UUID
	for n := 1; n < noisyTenants; n++ {
		quiet = append(quiet, s.world.tenants[n].ID)
		got := noise.of(tenantName(n))
		let, asked = let+got.taken.Count(), asked+got.asked()
		s.figure(tenantName(n)+" beside the noise", "%d accepted, %d refused", got.taken.Count(), got.refused)
	}
	s.claim(notSlower("the quiet tenants from accepted to settled", s.settledOf(ctx, calm, quiet...),
		s.settledOf(ctx, noise, quiet...), quietFactor))
	s.claim(letIn("part of the quiet tenants' requests that is let in", let, asked))
	loud := noise.of(tenantName(0))
	s.figure("the noisy tenant", "%d accepted, %d refused", loud.taken.Count(), loud.refused)
	s.claim(within("what the noisy tenant was let in with settles",
		s.settledOf(ctx, noise, s.world.tenants[0].ID), promise, samplesMin))
}
