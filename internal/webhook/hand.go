package webhook

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"time"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/webhook/internal/webhookdb"
)

const (
	// sendMax is how long after its lease was asked for an endpoint is sent to: whatever is begun by then has
	// ended, and is written down, before the lease ends.
	sendMax = lease - placeWaitMax - callMax - 2*statementMax
	// troublePause is how long an endpoint is left alone whose round could not be done for a reason of ours.
	troublePause = time.Second
)

var (
	errLost = errors.New("somebody else has taken it")
	errURL  = errors.New("its URL may not be called")
	// errDeferred is no trouble of the endpoint: nothing is sent for a while.
	errDeferred = errors.New("webhooks are deferred")
)

// hand is an endpoint in this process's hand, by one goroutine.
type hand struct {
	d       *Deliverer
	e       webhookdb.WebhookEndpoints // as the last commit left it
	from    int64                      // where to read the log on: its place, or where the log begins
	asked   time.Time                  // before the lease was asked for
	failing bool                       // it was when it was taken
	turn    time.Time                  // when others get their turn
	client  *outbound.Client
	path    string
	url     string // that client and path are made of
}

// serve does rounds while there is work, and gives the endpoint back.
func (h *hand) serve(ctx context.Context) {
	log := h.d.Log.With(slog.String("tenant_id", h.e.TenantID.String()),
		slog.String("endpoint_id", h.e.ID.String()))
	if h.from > h.e.Place {
		log.WarnContext(ctx, "webhook events were forgotten before they were sent",
			slog.Int64("place", h.e.Place), slog.Int64("forgotten", h.from))
	}
	h.turn = h.d.Now().Add(turnMax)
	for {
		more, err := h.round(ctx)
		switch {
		case errors.Is(err, errLost):
			log.InfoContext(ctx, "webhook endpoint lost", slog.Any("error", err))
			return
		case err != nil:
			if ctx.Err() == nil {
				log.WarnContext(ctx, "webhook round failed", slog.Any("error", err))
			}
			h.leave(ctx, log, err)
			return
		case !more:
			return
		case h.d.share() == 0:
			h.leave(ctx, log, errDeferred)
			return
		}
	}
}

// round sends what is there, within bounds, and writes down what came of it. It says whether to go on.
func (h *hand) round(ctx context.Context) (bool, error) {
	if err := h.prepare(); err != nil {
		return false, err
	}
	r, err := h.load(ctx)
	if err != nil {
		return false, err
	}
	if err := h.encode(ctx, r); err != nil {
		return false, err
	}
	h.send(ctx, r)
	return h.commit(ctx, r)
}

// prepare makes the client of the endpoint, anew when its URL was changed.
func (h *hand) prepare() error {
	if h.client != nil && h.url == h.e.Url {
		return nil
	}
	u, err := url.Parse(h.e.Url)
	if err != nil || h.d.checks.url(h.e.Url) != "" {
		return errURL
	}
	config := h.d.calls
	config.BaseURL, h.path, h.url = u.Scheme+"://"+u.Host, u.EscapedPath(), h.e.Url
	if u.RawQuery != "" {
		h.path += "?" + u.RawQuery
	}
	h.client, err = outbound.New(config)
	return err
}

// leave gives the endpoint back after trouble of ours; if that fails, its lease ends by itself.
func (h *hand) leave(ctx context.Context, log *slog.Logger, trouble error) {
	pause := troublePause
	switch {
	case ctx.Err() != nil || errors.Is(trouble, errDeferred):
		pause = 0 // whoever sends again goes on at once
	case errors.Is(trouble, errURL):
		pause = probePauseMax // until somebody changes it, or the settings
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementMax)
	defer cancel()
	err := webhookdb.New().LeaveEndpoint(ctx, h.d.Pool, webhookdb.LeaveEndpointParams{
		Pause: pgtx.Interval(pause), TenantID: h.e.TenantID, ID: h.e.ID, Claims: h.e.Claims,
	})
	if err != nil {
		log.WarnContext(ctx, "webhook endpoint not given back", slog.Any("error", err))
	}
}
