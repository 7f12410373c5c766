package privatepg

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// pipeWait bounds the wait for the output of backends that outlive a killed postmaster.
	pipeWait = 2 * time.Second
	// outputMaxBytes is how much of the server's output is kept for error messages.
	outputMaxBytes = 8 << 10
)

// process is a child with an owner that waits for it.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// spawn starts cmd. The kernel ties the parent-death signal to the thread that forked, not to the
// process, and Go ends threads at will: so one goroutine keeps its thread from fork to exit.
func spawn(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.WaitDelay = pipeWait
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// stop asks for a fast shutdown and kills what has not ended after wait.
func (p *process) stop(wait time.Duration) {
	_ = p.cmd.Process.Signal(os.Interrupt) // an error means that it has already ended
	select {
	case <-p.done:
		return
	case <-time.After(wait):
	}
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// output keeps the end of what a server writes and hands each line on.
type output struct {
	mu      sync.Mutex
	kept    []byte
	partial []byte
	line    func(string)
}

// Write never fails: a server must not suffer from its log.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, p...)
	if over := len(o.kept) - outputMaxBytes; over > 0 {
		o.kept = append(o.kept[:0], o.kept[over:]...)
	}
	lines := strings.Split(string(append(o.partial, p...)), "\n")
	last := len(lines) - 1
	o.partial = []byte(lines[last])
	if len(o.partial) > outputMaxBytes {
		o.partial = nil
	}
	for _, l := range lines[:last] {
		o.line(l)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.TrimSpace(string(o.kept))
}
