package slots_test

import (
	"testing"

	"example.com/holdfast/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
