// Package config is every setting of the processes, read from the environment into one struct.
//
// It refuses defaults that differ between places, settings without a unit in their type, and
// stopping at the first mistake: all problems are reported at once. A secret may come from a file:
// NAME_FILE holds its path.
package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/internal/slots"
)

// Config is the settings of an api or worker process.
type Config struct {
	// DatabaseURL is where Postgres is, for everything that has no connection of its own.
	DatabaseURL string `env:"DATABASE_URL" secret:"true"`

	// Addr is where the public API listens.
	Addr string `env:"HOLDFAST_ADDR" envDefault:":8080"`
	// AdminAddr is where health, metrics and the admin API listen.
	AdminAddr string `env:"HOLDFAST_ADMIN_ADDR" envDefault:"127.0.0.1:8081"`

	// LogLevel is debug, info, warn or error.
	LogLevel string `env:"HOLDFAST_LOG_LEVEL" envDefault:"info"`
	// LogFormat is json, or text for people.
	LogFormat string `env:"HOLDFAST_LOG_FORMAT" envDefault:"json"`

	// APIConns is the size of the API's pool.
	APIConns int32 `env:"HOLDFAST_API_CONNS" envDefault:"16"`
	// WorkerConns is the size of the pool for the workers' domain work.
	WorkerConns int32 `env:"HOLDFAST_WORKER_CONNS" envDefault:"12"`
	// RiverConns is the size of the job queue's pool.
	RiverConns int32 `env:"HOLDFAST_RIVER_CONNS" envDefault:"6"`

	// Risk, Notify and Payout are the dependencies; their limits are 8, 20 and 8 where nothing else is set.
	Risk   Dependency `envPrefix:"HOLDFAST_RISK_"`
	Notify Dependency `envPrefix:"HOLDFAST_NOTIFY_"`
	Payout Dependency `envPrefix:"HOLDFAST_PAYOUT_"`
	// PayoutCallbackSecret is what the payout rail signs its callbacks with: 24 bytes or more in base64,
	// perhaps after "whsec_". Without one no callback is taken.
	PayoutCallbackSecret string `env:"HOLDFAST_PAYOUT_CALLBACK_SECRET" secret:"true"`
	// PublicURL is where clients reach the public API, such as https://api.example.com: events name their
	// schemas by it. Without it they name them by paths.
	PublicURL string `env:"HOLDFAST_PUBLIC_URL"`
	// NATSURL is where the broker is that events are sent to: a nats, tls, ws or wss URL, or several of one
	// cluster, separated by commas. It may hold user and password, or a token. Empty: no events are sent.
	NATSURL string `env:"HOLDFAST_NATS_URL" secret:"true"`
	// NATSStream is the stream that takes the events; it is made if there is none.
	NATSStream string `env:"HOLDFAST_NATS_STREAM" envDefault:"HOLDFAST"`
	// NATSCreds is the path of a credentials file for the broker.
	NATSCreds string `env:"HOLDFAST_NATS_CREDS"`
	// WebhookKey is what the secrets of webhook endpoints are made of: 32 bytes or more in base64, the same
	// for all processes. Another key changes every secret. Without one there are no webhooks.
	WebhookKey string `env:"HOLDFAST_WEBHOOK_KEY" secret:"true"`
	// WebhookDevelopment lets endpoints have http URLs and loopback addresses.
	WebhookDevelopment bool `env:"HOLDFAST_WEBHOOK_DEVELOPMENT"`
	// DBLimit is how many jobs of pure database work a worker has in hand.
	DBLimit int `env:"HOLDFAST_DB_LIMIT" envDefault:"40"`

	// QueueAgeMax is how old due work may get before standard requests are refused.
	QueueAgeMax time.Duration `env:"HOLDFAST_QUEUE_AGE_MAX" envDefault:"500ms"`
	// AcceptWaitMax is how long a transfer or an order may have to wait for the batch that accepts it; what
	// would wait longer is refused. Zero is no bound. A batch that waits for a locked row takes 250 ms.
	AcceptWaitMax time.Duration `env:"HOLDFAST_ACCEPT_WAIT_MAX" envDefault:"250ms"`
	// InFlightMax is how many requests the API works on at once; a quarter of them may be one tenant's.
	InFlightMax int `env:"HOLDFAST_IN_FLIGHT_MAX" envDefault:"2048"`
	// TenantRate is how many requests a tenant may send in a second.
	TenantRate int `env:"HOLDFAST_TENANT_RATE" envDefault:"20000"`
	// MismatchStatus answers a key that was used for another request: 409, or 422 as the IETF draft says.
	MismatchStatus int `env:"IDEMPOTENCY_MISMATCH_STATUS" envDefault:"409"`
	// PolicyFile is the path of the policy: what each mode does, and what switches it. Without one the
	// program's own is in force. All processes should have the same.
	PolicyFile string `env:"HOLDFAST_POLICY_FILE"`
	// Drain is how a process ends.
	Drain Drain `envPrefix:"HOLDFAST_DRAIN_"`
}

// Drain is the settings of a process's end.
type Drain struct {
	// Grace is how long a process that is not ready any more still serves, so that load balancers see it.
	Grace time.Duration `env:"GRACE" envDefault:"0s"`
	// Max bounds what follows: to finish what is in hand, or to give it back.
	Max time.Duration `env:"MAX" envDefault:"15s"`
}

// Dependency is the settings of one dependency.
type Dependency struct {
	URL string `env:"URL"`
	// Limit is how many calls may be in flight over all processes, where nobody has set a limit yet: the
	// first process writes it down, and then what is written wins. It also is how many jobs a worker has
	// in hand. Zero takes the default of the dependency.
	Limit int `env:"LIMIT"`
	// Timeout bounds one attempt; it has to fit into a lease of places.
	Timeout time.Duration `env:"TIMEOUT" envDefault:"1s"`
	// WaitMax bounds the wait for a place; what has none then goes back to the queue.
	WaitMax time.Duration `env:"WAIT_MAX" envDefault:"250ms"`
}

// The limits of the dependencies where nothing else is set.
const (
	riskLimit   = 8
	notifyLimit = 20
	payoutLimit = 8
)

// streamName is what a stream of the broker may be called.
var streamName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// Defaults is the configuration of an empty environment.
func Defaults() (Config, error) { return Load(nil) }

// Load reads the configuration from environment variables of the form NAME=value.
func Load(environ []string) (Config, error) {
	vars, fileErr := withFiles(env.ToMap(environ))
	c, err := env.ParseAsWithOptions[Config](env.Options{Environment: vars})
	if err != nil {
		return Config{}, fmt.Errorf("read settings: %w", errors.Join(fileErr, err))
	}
	if c.Risk.Limit == 0 {
		c.Risk.Limit = riskLimit
	}
	if c.Notify.Limit == 0 {
		c.Notify.Limit = notifyLimit
	}
	if c.Payout.Limit == 0 {
		c.Payout.Limit = payoutLimit
	}
	return c, errors.Join(fileErr, c.validate())
}

// withFiles replaces NAME_FILE by NAME with the file's content, for the settings that are secrets.
func withFiles(vars map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(vars))
	maps.Copy(out, vars)
	var problems []error
	for _, name := range secrets() {
		path, ok := vars[name+"_FILE"]
		if !ok {
			continue
		}
		content, err := os.ReadFile(path) //nolint:gosec // the operator names the file
		if err != nil {
			problems = append(problems, fmt.Errorf("%s_FILE: %w", name, err))
			continue
		}
		out[name] = strings.TrimSpace(string(content))
	}
	return out, errors.Join(problems...)
}

// secrets are the names of the settings that are secrets.
func secrets() []string {
	var names []string
	for field := range reflect.TypeFor[Config]().Fields() {
		if field.Tag.Get("secret") == "true" {
			names = append(names, field.Tag.Get("env"))
		}
	}
	return names
}

func (c Config) validate() error {
	var problems []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	check(c.APIConns > 0 && c.WorkerConns > 0 && c.RiverConns > 0, "every pool needs a connection")
	check(c.LogFormat == "json" || c.LogFormat == "text",
		"HOLDFAST_LOG_FORMAT %q is neither json nor text", c.LogFormat)
	for name, d := range map[string]Dependency{"RISK": c.Risk, "NOTIFY": c.Notify, "PAYOUT": c.Payout} {
		check(d.Limit > 0 && d.Limit <= slots.PlacesMax, "HOLDFAST_%s_LIMIT has to be 1 to %d", name,
			slots.PlacesMax)
		check(d.Timeout > 0 && d.Timeout <= slots.CallTimeoutMax,
			"HOLDFAST_%s_TIMEOUT has to be positive and at most %v, to fit into a lease of places", name,
			slots.CallTimeoutMax)
		check(d.WaitMax > 0, "HOLDFAST_%s_WAIT_MAX has to be positive", name)
	}
	if c.PayoutCallbackSecret != "" {
		err := payout.CheckSecret(c.PayoutCallbackSecret)
		check(err == nil, "HOLDFAST_PAYOUT_CALLBACK_SECRET: %w", err)
	}
	check(c.PublicURL == "" || isPublicURL(c.PublicURL),
		"HOLDFAST_PUBLIC_URL has to be http:// or https:// and a host, without a slash at the end")
	check(c.NATSURL == "" || serversOf(c.NATSURL) != nil,
		"HOLDFAST_NATS_URL has to be nats://, tls://, ws:// or wss:// and a host, or several by commas")
	check(streamName.MatchString(c.NATSStream),
		"HOLDFAST_NATS_STREAM %q has to be of letters, digits, _ and -", c.NATSStream)
	check(c.WebhookKey == "" || len(c.WebhookMasterKey()) >= webhookKeyMinBytes,
		"HOLDFAST_WEBHOOK_KEY has to be %d bytes or more in base64", webhookKeyMinBytes)
	check(c.DBLimit > 0, "HOLDFAST_DB_LIMIT has to be positive")
	check(c.QueueAgeMax > 0, "HOLDFAST_QUEUE_AGE_MAX has to be positive")
	check(c.AcceptWaitMax >= 0, "HOLDFAST_ACCEPT_WAIT_MAX must not be negative")
	check(c.InFlightMax > 0, "HOLDFAST_IN_FLIGHT_MAX has to be positive")
	check(c.TenantRate > 0, "HOLDFAST_TENANT_RATE has to be positive")
	check(c.MismatchStatus == 409 || c.MismatchStatus == 422,
		"IDEMPOTENCY_MISMATCH_STATUS %d is neither 409 nor 422", c.MismatchStatus)
	check(c.Drain.Grace >= 0, "HOLDFAST_DRAIN_GRACE must not be negative")
	check(c.Drain.Max > 0, "HOLDFAST_DRAIN_MAX has to be positive")
	return errors.Join(problems...)
}

// webhookKeyMinBytes is the least that secrets of webhooks may be made of.
const webhookKeyMinBytes = 32

// WebhookMasterKey is WebhookKey as bytes; nil where there is none.
func (c Config) WebhookMasterKey() []byte {
	key, err := base64.StdEncoding.DecodeString(c.WebhookKey)
	if err != nil {
		return nil
	}
	return key
}

// Redacted lists every setting, one NAME=value a line, secrets hidden.
func (c Config) Redacted() string {
	if c.DatabaseURL != "" {
		c.DatabaseURL = hidePassword(c.DatabaseURL)
	}
	if c.PayoutCallbackSecret != "" {
		c.PayoutCallbackSecret = hidden
	}
	if c.WebhookKey != "" {
		c.WebhookKey = hidden
	}
	if c.NATSURL != "" {
		c.NATSURL = hideUsers(c.NATSURL)
	}
	var b strings.Builder
	list(&b, "", reflect.ValueOf(c))
	return b.String()
}

func list(b *strings.Builder, prefix string, v reflect.Value) {
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		if nested, ok := tag.Lookup("envPrefix"); ok {
			list(b, prefix+nested, v.Field(i))
			continue
		}
		fmt.Fprintf(b, "%s%s=%v\n", prefix, tag.Get("env"), v.Field(i).Interface())
	}
}

// hidden stands for a secret.
const hidden = "(hidden)"

func hidePassword(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return hidden
	}
	return u.Redacted()
}

// isPublicURL says whether paths of the API can follow an URL.
func isPublicURL(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") && u.User == nil &&
		u.RawQuery == "" && u.Fragment == "" && !strings.HasSuffix(raw, "/")
}

// serversOf reads the URLs of the broker, or returns nil if one is none.
func serversOf(list string) []*url.URL {
	var servers []*url.URL
	for raw := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(raw))
		if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return nil
		}
		servers = append(servers, u)
	}
	return servers
}

// hideUsers hides who is named in the URLs of the broker: a name without a password is a token there.
func hideUsers(list string) string {
	var shown []string
	for _, u := range serversOf(list) {
		if u.User != nil {
			u.User = url.User("xxxxx")
		}
		shown = append(shown, u.String())
	}
	if shown == nil {
		return hidden
	}
	return strings.Join(shown, ",")
}
