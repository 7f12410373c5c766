// Package rig is what load tests stand on: a private PostgreSQL with a filled template, the program itself
// as a child process, a referee that reads the stored rows, and a histogram.
//
// It refuses to make load and to judge: what is measured and what it is held to is said by bench and drill.
//
// Invariant: whatever a rig starts, it ends: children by their process, a database with its data.
package rig

import (
	"strings"
	"time"
)

// StopMax is how long a child may take to end before it is killed.
const StopMax = 20 * time.Second

// outside is an environment without our settings: a run measures the defaults.
func outside(environ []string) []string {
	var kept []string
	for _, v := range environ {
		if !strings.HasPrefix(v, "HOLDFAST_") && !strings.HasPrefix(v, "DATABASE_URL") {
			kept = append(kept, v)
		}
	}
	return kept
}
