package fault_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fault"
)

func TestAPointWithoutInjectorDoesNothing(t *testing.T) {
	t.Parallel()
	require.NoError(t, fault.At(t.Context(), "unarmed"))
}

func TestTheInjectorSeesEveryPointAndEndsTheStep(t *testing.T) {
	t.Parallel()
	errCrash := errors.New("crash here")
	var passed []string
	ctx := fault.With(t.Context(), func(name string) error {
		passed = append(passed, name)
		if name == "second" {
			return errCrash
		}
		return nil
	})

	step := func() error {
		for _, name := range []string{"first", "second", "third"} {
			if err := fault.At(ctx, name); err != nil {
				return err
			}
		}
		return nil
	}
	err := step()
	require.ErrorIs(t, err, errCrash)
	require.EqualError(t, err, "fault point second: crash here")
	require.Equal(t, []string{"first", "second"}, passed)
}

func TestAnInnerInjectorReplacesTheOuterOne(t *testing.T) {
	t.Parallel()
	outer := fault.With(t.Context(), func(string) error { return errors.New("outer") })
	inner := fault.With(outer, func(string) error { return nil })
	require.NoError(t, fault.At(inner, "any"))
	require.ErrorContains(t, fault.At(outer, "any"), "outer")
}

func BenchmarkPointInAnOrdinaryContext(b *testing.B) {
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := fault.At(ctx, "bench"); err != nil {
			b.Fatal(err)
		}
	}
}
