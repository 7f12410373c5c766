package httpapi

import (
	"time"

	"example.com/holdfast/internal/mode"
)

// ModeNow is the mode as operators see it.
type ModeNow struct {
	mode.State

	// ChangedAt is when its version was made.
	ChangedAt time.Time
	// Policy is that of the process which tells.
	Policy *mode.Policy
	// Latest is the latest sample, or nil if there is none of the last minute.
	Latest *mode.Sample
	// Followers are the processes that have reported lately.
	Followers []ModeFollower
}

// ModeFollower is a process that follows the mode.
type ModeFollower struct {
	mode.Follower

	// Behind says that it has reported of an earlier version although it should have seen this one.
	Behind bool
	// OtherPolicy says that its policy is not the one by which was judged last.
	OtherPolicy bool
}
