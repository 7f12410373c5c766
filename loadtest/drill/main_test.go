package drill

import (
	"context"
	"fmt"
	"os"
	"testing"

	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/loadtest/rig"
)

// childVariable makes the test program a process of a scenario.
const childVariable = "DRILL_TEST_CHILD"

func TestMain(m *testing.M) {
	if _, is := os.LookupEnv(childVariable); is {
		//nolint:forbidigo // a program of its own
		if err := rig.Serve(context.Background(), os.Environ(), os.Stdin, os.Stdout); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // a program of its own
		}
		return
	}
	pgtest.Main(m)
}
