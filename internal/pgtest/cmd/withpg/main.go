// Command withpg runs a command beside a private PostgreSQL:
//
//	withpg [-durable] [-tcp] -- command [argument ...]
//
// The command finds the server's URL in DATABASE_URL. Signals are passed on to it and its exit code is
// withpg's. When DATABASE_URL or HOLDFAST_TEST_DATABASE_URL is set already, no server is started.
// The server's data is gone afterwards.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/privatepg"
)

const (
	// exitUsage and exitNoServer are codes that `go test` does not use.
	exitUsage    = 64
	exitNoServer = 69
	// signalExitBase plus the signal's number is a shell's code for a command that a signal ended.
	signalExitBase = 128
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	//nolint:forbidigo // a command: the context starts here
	code, err := run(context.Background(), os.Args[1:], os.Stderr, signals)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "withpg:", err)
	}
	os.Exit(code) //nolint:forbidigo // a command: its exit code is its result
}

func run(ctx context.Context, args []string, stderr io.Writer, signals <-chan os.Signal) (int, error) {
	flags := flag.NewFlagSet("withpg", flag.ContinueOnError)
	flags.SetOutput(stderr)
	durable := flags.Bool("durable", false, "store as a production server does (fsync on)")
	tcp := flags.Bool("tcp", false, "name a TCP address in DATABASE_URL instead of a unix socket")
	if err := flags.Parse(args); err != nil {
		return exitUsage, nil // the flag package has said why
	}
	if flags.NArg() == 0 {
		return exitUsage, errors.New("usage: withpg [-durable] [-tcp] -- command [argument ...]")
	}
	env := os.Environ()
	if !serverGiven() {
		server, err := privatepg.Start(ctx, privatepg.Options{
			Env:      os.Getenv, //nolint:forbidigo // a command: it reads the environment for those below
			Volatile: !*durable, TCP: *tcp, Params: pgtest.Params(),
		})
		if err != nil {
			return exitNoServer, err
		}
		defer func() { _ = server.Stop() }() // its data is temporary: nothing depends on a clean end
		env = append(env, "DATABASE_URL="+url(server))
	}
	return runCommand(ctx, flags.Args(), env, signals)
}

func serverGiven() bool {
	//nolint:forbidigo // a command reads the environment
	return os.Getenv("DATABASE_URL") != "" || os.Getenv("HOLDFAST_TEST_DATABASE_URL") != ""
}

func url(s *privatepg.Server) string {
	if tcp := s.TCPURL("postgres"); tcp != "" {
		return tcp
	}
	return s.URL("postgres")
}

// runCommand returns when the command has ended: on a signal it is the command's turn to end.
func runCommand(ctx context.Context, args, env []string, signals <-chan os.Signal) (int, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // running what it is told is its job
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return exitUsage, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s) // an error means that it has just ended
		case err := <-ended:
			return exitCode(err)
		}
	}
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return signalExitBase + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}
