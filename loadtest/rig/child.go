package rig

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Command says how to run a child: this program again, told by its environment what to be.
type Command struct {
	Args    []string
	Environ []string
	Stderr  io.Writer
}

// Child is a process of our own program. It says that it is ready in a line of JSON, answers questions line
// by line if it knows any, and ends when its input does, also because its parent was killed.
type Child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
	wait  func() error
}

// StartChild runs the command and returns when it has said that it is ready.
func StartChild(ctx context.Context, c Command, ready any) (*Child, error) {
	//nolint:gosec // the command is this program again
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Env = append(outside(os.Environ()), c.Environ...)
	cmd.Stderr = c.Stderr
	cmd.WaitDelay = StopMax
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start child: %w", err)
	}
	child := &Child{cmd: cmd, stdin: stdin, lines: bufio.NewScanner(stdout), wait: sync.OnceValue(cmd.Wait)}
	if err := child.read(ready); err != nil {
		return nil, errors.Join(fmt.Errorf("start child: %w", err), child.Stop())
	}
	return child, nil
}

func (c *Child) read(into any) error {
	if !c.lines.Scan() {
		return errors.Join(io.ErrUnexpectedEOF, c.lines.Err())
	}
	return json.Unmarshal(c.lines.Bytes(), into)
}

// Ask sends a line and reads the answer.
func (c *Child) Ask(question string, answer any) error {
	if _, err := io.WriteString(c.stdin, question+"\n"); err != nil {
		return fmt.Errorf("ask child: %w", err)
	}
	if err := c.read(answer); err != nil {
		return fmt.Errorf("ask child: %w", err)
	}
	return nil
}

// Signal sends the child a signal.
func (c *Child) Signal(s os.Signal) error { return c.cmd.Process.Signal(s) }

// Kill ends the child at once and waits for it.
func (c *Child) Kill() error {
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = c.wait() // that it was killed is no news
	return nil
}

// Stop ends the child's input and waits for it; one that does not end in time is killed.
func (c *Child) Stop() error {
	err := c.stdin.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	return errors.Join(err, c.Wait(StopMax))
}

// Wait waits for the child's end, and kills it after a while. It returns how it ended.
func (c *Child) Wait(most time.Duration) error {
	kill := time.AfterFunc(most, func() { _ = c.cmd.Process.Kill() })
	defer kill.Stop()
	if err := c.wait(); err != nil {
		return fmt.Errorf("end child: %w", err)
	}
	return nil
}
