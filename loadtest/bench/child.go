package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"example.com/holdfast/loadtest/rig"
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
	*rig.Child

	addr string
}

// startChild runs the system and returns when it answers requests.
func startChild(ctx context.Context, o Options, environ []string) (*child, error) {
	var r ready
	c, err := rig.StartChild(ctx, rig.Command{
		Args: o.Command, Environ: append(environ, o.Environ...), Stderr: o.Progress,
	}, &r)
	if err != nil {
		return nil, fmt.Errorf("system under test: %w", err)
	}
	return &child{Child: c, addr: r.Addr}, nil
}

// cpu asks what the child has used.
func (c *child) cpu() (time.Duration, error) {
	var u used
	err := c.Ask(askCPU, &u)
	return time.Duration(u.Nanoseconds), err
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
