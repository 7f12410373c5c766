// Package download fetches PostgreSQL's binaries from Maven Central, for a machine that has none.
//
// It is the last resort of package privatepg, which does not import it: whoever starts a server
// decides whether a download is welcome. It fetches only; it never keeps a server running.
//
// Invariant: a folder that Fetch returns is whole; a broken download leaves nothing behind.
// The archive has to match its checksum, which comes from the same place: it finds damage, not malice.
package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"
)

const (
	repository = "https://repo1.maven.org/maven2"
	version    = embedded.V18
	// fetchWait bounds the whole fetch: some 40 MB over a slow line.
	fetchWait = 5 * time.Minute
	// answerWait bounds the wait for the repository to begin its answer.
	answerWait = 15 * time.Second
	// startWait bounds the trial start that comes with the library's download.
	startWait = 30 * time.Second
	// headerWait bounds the library's own request to our relay.
	headerWait = 5 * time.Second
)

// Fetch returns the folder with the binaries below dir, which it downloads at the first call. It needs
// a dir that the server's user can reach.
func Fetch(ctx context.Context, dir string) (string, error) {
	return fetchFrom(ctx, dir, repository)
}

func fetchFrom(ctx context.Context, dir, repo string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchWait,
		fmt.Errorf("download of PostgreSQL timed out after %s", fetchWait))
	defer cancel()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	home := filepath.Join(dir, "postgresql-"+string(version))
	if whole(home) {
		return filepath.Join(home, "bin"), nil
	}
	//nolint:gosec // the server's user has to pass through
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(dir, "fetching-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }() // litter at worst
	unpacked, err := unpack(ctx, work, repo)
	if err != nil {
		return "", fmt.Errorf("download PostgreSQL %s from %s: %w", version, repo, err)
	}
	if err := os.Rename(unpacked, home); err != nil && !whole(home) { // another process may have been first
		return "", err
	}
	return filepath.Join(home, "bin"), nil
}

func whole(home string) bool {
	for _, program := range []string{"initdb", "postgres", "pg_ctl"} {
		if fi, err := os.Stat(filepath.Join(home, "bin", program)); err != nil || !fi.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// unpack has the library download and unpack, which it does only as a part of starting a server. So
// that start is a trial in work; where it cannot succeed (initdb refuses root) the binaries are there
// all the same, and they are what counts.
func unpack(ctx context.Context, work, repo string) (string, error) {
	relay, err := startRelay(ctx, repo)
	if err != nil {
		return "", err
	}
	defer relay.stop()
	home := filepath.Join(work, "home")
	port, err := freePort(ctx)
	if err != nil {
		return "", err
	}
	server := embedded.NewDatabase(embedded.DefaultConfig().
		Version(version).
		Port(port).
		BinaryRepositoryURL(relay.url).
		CachePath(filepath.Join(work, "archive")).
		RuntimePath(filepath.Join(work, "run")).
		DataPath(filepath.Join(work, "data")).
		BinariesPath(home).
		StartTimeout(startWait).
		Logger(io.Discard))
	errStart := server.Start()
	if errStart == nil {
		errStart = server.Stop()
	}
	if cause := relay.failure(); cause != nil {
		return "", cause
	}
	if !whole(home) {
		return "", errors.Join(errors.New("the archive has no server"), errStart)
	}
	return home, nil
}

// relay stands between the library and the repository: the library's requests know no deadline and
// take a missing checksum for a good one; the relay's end with its context, and it refuses an archive
// whose checksum cannot be had.
type relay struct {
	url    string
	server *http.Server
	served chan struct{}
	mu     sync.Mutex
	err    error
}

func startRelay(ctx context.Context, repo string) (*relay, error) {
	target, err := url.Parse(repo)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{url: "http://" + l.Addr().String(), served: make(chan struct{})}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: answerWait}
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { p.SetURL(target) },
		Transport:      transport,
		ModifyResponse: check,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			r.fail(errors.Join(err, context.Cause(ctx)))
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	r.server = &http.Server{
		Handler:           proxy,
		ReadHeaderTimeout: headerWait,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	go func() {
		defer close(r.served)
		_ = r.server.Serve(l) // ends with Close
		transport.CloseIdleConnections()
	}()
	return r, nil
}

// check turns every answer but a good one into a failure of the fetch.
func check(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", resp.Request.URL, resp.Status)
	}
	return nil
}

func (r *relay) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

func (r *relay) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *relay) stop() {
	_ = r.server.Close()
	<-r.served
}

func freePort(ctx context.Context) (uint32, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port, err := netip.ParseAddrPort(l.Addr().String())
	return uint32(port.Port()), errors.Join(err, l.Close())
}
