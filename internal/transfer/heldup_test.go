package transfer

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/groupcommit"
)

func TestWhatIsTriedForHoursMayBeHeldUpForLong(t *testing.T) {
	t.Parallel()
	held := fmt.Errorf("move: %w", groupcommit.ErrFull)
	for _, state := range allStates() {
		patient := state == Settling || state.Terminal()
		require.True(t, Transfer{State: state, Attempts: passingMax - 1}.heldUpBy(held), state)
		require.Equal(t, patient, Transfer{State: state, Attempts: passingMax}.heldUpBy(held), state)
		require.False(t, Transfer{State: state}.heldUpBy(errors.New("broken")), state)
	}
}
