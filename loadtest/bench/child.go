package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// The protocol between parent and child: the child says ready, then answers each line "cpu" with what it
// has used, and ends when its input does, also because its parent was killed.
const askCPU = "cpu"

type ready struct {
	Addr string `json:"addr"`
}

type used struct {
	Nanoseconds int64 `json:"cpu_ns"`
}

// child is a system under test in a process of its own.
type child struct {
	addr  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

// startChild runs the system and returns when it answers requests.
func startChild(ctx context.Context, o Options, environ []string) (*child, error) {
	//nolint:gosec // the command is this program again
	cmd := exec.CommandContext(ctx, o.Command[0], o.Command[1:]...)
	cmd.Env = append(append(outside(os.Environ()), environ...), o.Environ...)
	cmd.Stderr = o.Progress
	cmd.WaitDelay = stopMax
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start system under test: %w", err)
	}
	c := &child{cmd: cmd, stdin: stdin, lines: bufio.NewScanner(stdout)}
	var r ready
	if err := c.read(&r); err != nil {
		return nil, errors.Join(fmt.Errorf("start system under test: %w", err), c.stop())
	}
	c.addr = r.Addr
	return c, nil
}

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

func (c *child) read(into any) error {
	if !c.lines.Scan() {
		return errors.Join(io.ErrUnexpectedEOF, c.lines.Err())
	}
	return json.Unmarshal(c.lines.Bytes(), into)
}

// cpu asks what the child has used.
func (c *child) cpu() (time.Duration, error) {
	if _, err := io.WriteString(c.stdin, askCPU+"\n"); err != nil {
		return 0, fmt.Errorf("ask system under test: %w", err)
	}
	var u used
	if err := c.read(&u); err != nil {
		return 0, fmt.Errorf("ask system under test: %w", err)
	}
	return time.Duration(u.Nanoseconds), nil
}

// stop ends the child and waits for it; one that does not end in time is killed.
func (c *child) stop() error {
	err := c.stdin.Close()
	kill := time.AfterFunc(stopMax, func() { _ = c.cmd.Process.Kill() })
	defer kill.Stop()
	if wait := c.cmd.Wait(); wait != nil {
		err = errors.Join(err, fmt.Errorf("end system under test: %w", wait))
	}
	return err
}

// answerParent is the child's side of the protocol. It returns when the parent has no more to ask.
func answerParent(in io.Reader, out io.Writer, addr string) error {
	answers := json.NewEncoder(out)
	if err := answers.Encode(ready{Addr: addr}); err != nil {
		return err
	}
	questions := bufio.NewScanner(in)
	for questions.Scan() {
		if questions.Text() != askCPU {
			return fmt.Errorf("parent asks %q", questions.Text())
		}
		if err := answers.Encode(used{Nanoseconds: int64(ownCPU())}); err != nil {
			return err
		}
	}
	return questions.Err()
}
