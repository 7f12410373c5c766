package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
)

// The roles of a child that is a process of Holdfast. RoleVariable tells it which.
const (
	RoleVariable = "HOLDFAST_RIG_ROLE"
	RoleAPI      = "api"
	RoleWorker   = "worker"
)

// Ready is what such a child says when it works: where it listens, and which instance it is.
type Ready struct {
	Addr     string `json:"addr"`
	Admin    string `json:"admin"`
	Instance string `json:"instance"`
}

var errRole = errors.New("the environment names no role")

// Serve is the child: api or worker, wired as cmd/api and cmd/worker do it, until a SIGTERM or the end of in.
// The environment has the form of os.Environ.
func Serve(ctx context.Context, environ []string, in io.Reader, out io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM) // Ctrl-C is for the parent
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process at the latest: its parent holds the other end
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	cfg, err := config.Load(environ)
	if err != nil {
		return err
	}
	env, err := app.NewEnv(cfg, app.Version())
	if err != nil {
		return err
	}
	say := announcement{out: out, ready: Ready{Instance: env.Instance}}
	switch role := roleOf(environ); role {
	case RoleAPI:
		api, err := app.NewAPI(ctx, cfg, env)
		if err != nil {
			return err
		}
		say.addrs = func(r *Ready) { r.Addr, r.Admin = api.Addr(), api.AdminAddr() }
		return app.Run(ctx, cfg.Drain, api, say)
	case RoleWorker:
		worker, err := app.NewWorker(ctx, cfg, env, app.Transports{})
		if err != nil {
			return err
		}
		worker.ListenAdmin()
		say.addrs = func(r *Ready) { r.Admin = worker.AdminAddr() }
		return app.Run(ctx, cfg.Drain, worker, say)
	default:
		return fmt.Errorf("%s is %q: %w", RoleVariable, role, errRole)
	}
}

func roleOf(environ []string) string {
	for _, v := range environ {
		if role, is := strings.CutPrefix(v, RoleVariable+"="); is {
			return role
		}
	}
	return ""
}

// announcement is the last service of a child: once it starts, all others have.
type announcement struct {
	out   io.Writer
	ready Ready
	addrs func(*Ready)
}

// Start says that the child is ready.
func (a announcement) Start(context.Context) error {
	a.addrs(&a.ready)
	return json.NewEncoder(a.out).Encode(a.ready)
}

// Stop has nothing to end.
func (a announcement) Stop(context.Context) error { return nil }
