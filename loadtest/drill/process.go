package drill

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"example.com/holdfast/loadtest/rig"
)

// endMax is how long a process that was told to end may take: the drain bound of the settings, and what a
// start and an end cost besides.
const endMax = 20 * time.Second

// process is a child of ours.
type process struct {
	*rig.Child

	ready rig.Ready
	ended bool
}

// start runs a child in a role.
func (s *stage) start(ctx context.Context, role string) *process {
	p := &process{}
	s.do(func() error {
		environ := []string{
			rig.RoleVariable + "=" + role, "DATABASE_URL=" + s.url,
			"HOLDFAST_ADDR=127.0.0.1:0", "HOLDFAST_ADMIN_ADDR=127.0.0.1:0",
			"HOLDFAST_LOG_LEVEL=error", "HOLDFAST_LOG_FORMAT=text",
			"HOLDFAST_RISK_URL=" + s.risk.URL(), "HOLDFAST_NOTIFY_URL=" + s.notify.URL(),
			"HOLDFAST_PAYOUT_URL=" + s.rail.URL(),
		}
		environ = slices.Concat(environ, s.settings, s.run.o.Environ)
		var err error
		p.Child, err = rig.StartChild(context.WithoutCancel(ctx), rig.Command{
			Args: s.command, Environ: environ, Stderr: s.run.o.Logs,
		}, &p.ready)
		if err != nil {
			return fmt.Errorf("%s: %w", role, err)
		}
		s.all = append(s.all, p)
		return nil
	})
	return p
}

// startWorkers runs that many workers more.
func (s *stage) startWorkers(ctx context.Context, n int) {
	for range n {
		if p := s.start(ctx, rig.RoleWorker); s.err == nil {
			s.mu.Lock()
			s.workers = append(s.workers, p)
			s.mu.Unlock()
		}
	}
}

// oldest takes the worker that was started first off the list, for what a scenario does to it.
func (s *stage) oldest() *process {
	if s.err == nil && len(s.workers) == 0 {
		s.err = fmt.Errorf("%s: no worker is left", s.outcome.title())
	}
	if s.err != nil {
		return &process{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.workers[0]
	s.workers = s.workers[1:]
	return p
}

// kill ends a process with SIGKILL.
func (s *stage) kill(p *process) {
	s.do(func() error {
		p.ended = true
		return p.Kill()
	})
}

// pause stops a process with SIGSTOP for a while.
func (s *stage) pause(ctx context.Context, p *process, d time.Duration) {
	s.do(func() error { return p.Signal(syscall.SIGSTOP) })
	s.wait(ctx, d)
	if s.err == nil {
		s.err = p.Signal(syscall.SIGCONT)
	}
}

// drain ends a process with SIGTERM and returns how long that took, and why it did not end as it should.
func (s *stage) drain(p *process) (time.Duration, error) {
	var ended error
	var took time.Duration
	s.do(func() error {
		begin := s.run.o.Now()
		if err := p.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		p.ended = true
		ended = p.Wait(endMax)
		took = s.run.o.Now().Sub(begin)
		return nil
	})
	return took, ended
}
