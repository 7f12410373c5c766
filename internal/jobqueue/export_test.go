package jobqueue

import (
	"context"
	"log/slog"
)

// What the tests of this package name.
const (
	OldestLiveSQL   = oldestLive
	ReadyAgesSQL    = readyAges
	DiscardedSQL    = discarded
	BeatEvery       = beatEvery
	BeatTimeout     = beatTimeout
	SilenceMax      = silenceMax
	PollUrgentEvery = pollUrgentEvery
	RunMax          = runMax
	LostAfter       = lostAfter
	CalmRounds      = calmRounds
	MaxAttempts     = maxAttempts
	NotifyChannel   = notifyChannel
	DeadMaxRows     = deadMaxRows
	ErrorMaxBytes   = errorMaxBytes
)

// EncodeTraces is what Enqueue does for the traces of jobs.
func EncodeTraces(jobs []Job) ([][]byte, error) { return metadataOf(jobs) }

// BeatOnce writes one heartbeat.
func (i *Instance) BeatOnce(ctx context.Context) error { return i.beat(ctx) }

// ReapOnce makes one round of the reaper.
func (i *Instance) ReapOnce(ctx context.Context) error { return i.reap(ctx) }

// Warnings is a handler that keeps what is less than a warning to itself.
func Warnings(h slog.Handler) slog.Handler { return warnings{h} }

// Take takes a job into the hand.
func (h *Hand) Take(id int64) func() { return h.begin(id) }

// List is what is in the hand.
func (h *Hand) List() []int64 { return h.held() }
