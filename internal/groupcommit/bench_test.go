package groupcommit_test

import (
	"context"
	"fmt"
	"testing"

	"example.com/holdfast/internal/groupcommit"
)

// BenchmarkDo measures what an item costs on its way through a combiner whose flush does nothing.
func BenchmarkDo(b *testing.B) { benchmark(b, config()) }

// BenchmarkDoBounded measures the same where the wait is bounded and who has left is dropped.
func BenchmarkDoBounded(b *testing.B) { benchmark(b, bounded()) }

func benchmark(b *testing.B, cfg groupcommit.Config) {
	b.Helper()
	for _, parallel := range []int{1, 32, 128} {
		b.Run(fmt.Sprintf("callers per core %d", parallel), func(b *testing.B) {
			cfg.BatchMax, cfg.QueueMax, cfg.Flights = 256, 4_096, 2
			outcomes := make([]string, cfg.BatchMax)
			c := groupcommit.New(cfg, func(_ context.Context, items []int) ([]string, error) {
				return outcomes[:len(items)], nil
			})
			c.Start(b.Context())
			b.SetParallelism(parallel)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := c.Do(b.Context(), 1); err != nil {
						b.Error(err)
					}
				}
			})
			c.Stop()
		})
	}
}
