package webhook

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/holdfast/internal/problem"
)

const (
	urlMaxBytes         = 2_048
	descriptionMaxBytes = 500
	typesMax            = 50
	typeMaxBytes        = 100
	portMax             = 65_535

	allOfKind = ".*"
)

// checks holds what an endpoint may be.
type checks struct {
	addresses   addresses
	development bool
	types       []string // all that there are; none: any
}

// endpoint refuses what no endpoint may be.
func (c checks) endpoint(n New) error {
	if why := c.url(n.URL); why != "" {
		return problem.Invalid("/url", "%s", why)
	}
	if why := problem.InvalidText(n.Description, descriptionMaxBytes); why != "" {
		return problem.Invalid("/description", "%s", why)
	}
	if len(n.Types) > typesMax {
		return problem.Invalid("/types", "names %d types; %d are the most", len(n.Types), typesMax)
	}
	for i, t := range n.Types {
		pointer := "/types/" + strconv.Itoa(i)
		switch {
		case !c.known(t):
			return problem.Invalid(pointer, "is no type of events")
		case slices.Contains(n.Types[:i], t):
			return problem.Invalid(pointer, "is named twice")
		}
	}
	return nil
}

// known says whether there are events of a type, or of types that begin like it.
func (c checks) known(t string) bool {
	form := regexp.MustCompile(`^[a-z_]+\.([a-z_]+(\.[a-z_]+)*|\*)$`)
	if len(t) > typeMaxBytes || !form.MatchString(t) {
		return false
	}
	return len(c.types) == 0 || slices.ContainsFunc(c.types, func(k string) bool { return matches(t, k) })
}

// matches says whether a wanted type stands for an event's.
func matches(wanted, eventType string) bool {
	if kind, ok := strings.CutSuffix(wanted, allOfKind); ok {
		return strings.HasPrefix(eventType, kind+".")
	}
	return wanted == eventType
}

// wants says whether an endpoint with such types wants an event.
func wants(types []string, eventType string) bool {
	return len(types) == 0 || slices.ContainsFunc(types, func(t string) bool { return matches(t, eventType) })
}

// url says what is wrong with an address, or "". What a name resolves to is checked again whenever it is
// called, since that may change; here a tenant is only told early.
func (c checks) url(text string) string {
	if len(text) > urlMaxBytes {
		return "is too long"
	}
	if strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return "has to be of visible ASCII characters"
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return "is not a URL with a host"
	case u.Scheme != "https" && (u.Scheme != "http" || !c.development):
		return "has to begin with https://"
	case u.User != nil:
		return "may not name a user"
	case u.Fragment != "" || strings.Contains(text, "#"):
		return "may not have a fragment"
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > portMax {
			return "has a port that does not exist"
		}
	}
	return c.host(u.Hostname())
}

// host says what is wrong with a host, or "".
func (c checks) host(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		if !c.addresses.allowed(ip) {
			return "names an address that is not public"
		}
		return ""
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	const label = `[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?`
	if !regexp.MustCompile(`^` + label + `(\.` + label + `)*$`).MatchString(name) {
		return "has a host that is no name"
	}
	local := name == "localhost" || strings.HasSuffix(name, ".localhost")
	if local && !c.development {
		return "names an address that is not public"
	}
	return ""
}

// span says what is wrong with what shall go again.
func (s Span) check() error {
	byID, byTime := s.EventID != "", !s.From.IsZero() || !s.To.IsZero()
	switch {
	case byID == byTime:
		return problem.Invalid("/event_id", "has to be there, or from and to, and not both")
	case byTime && (s.From.IsZero() || s.To.IsZero() || !s.From.Before(s.To)):
		return problem.Invalid("/from", "has to be before to")
	}
	return nil
}

func checkOverlap(overlap time.Duration) error {
	if overlap < 0 || overlap > OverlapMax {
		return problem.Invalid("/overlap", "has to be 0 to %d hours", int(OverlapMax.Hours()))
	}
	return nil
}
