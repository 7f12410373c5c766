package webhook

import (
	"net/netip"
	"slices"
)

// notPublic are the nets of the special-purpose registries of IANA that are not globally reachable, and those
// that carry an IPv4 address inside, whatever that is: through them every refused address could be named
// once more.
func notPublic() []netip.Prefix {
	var nets []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8",       // this network
		"10.0.0.0/8",      // private
		"100.64.0.0/10",   // shared by carriers
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local, and the metadata of clouds
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // 6to4 relays
		"192.168.0.0/16",  // private
		"198.18.0.0/15",   // benchmarks
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, and broadcast
		"2001::/23",       // protocol assignments, Teredo among them
		"2001:db8::/32",   // documentation
		"2002::/16",       // 6to4
		"3fff::/20",       // documentation
	} {
		nets = append(nets, netip.MustParsePrefix(text))
	}
	return nets
}

// globalUnicast is what IANA gives out of IPv6: everything else is loopback, local, multicast, reserved, or
// carries an IPv4 address (mapped, compatible, NAT64).
func globalUnicast() netip.Prefix { return netip.MustParsePrefix("2000::/3") }

// addresses decides which addresses may be called.
type addresses struct {
	refused  []netip.Prefix
	unicast  netip.Prefix
	loopback bool // allowed, for development
}

func newAddresses(development bool) addresses {
	return addresses{refused: notPublic(), unicast: globalUnicast(), loopback: development}
}

// allowed says whether an address may be called. An IPv4 address in the clothes of IPv6 is refused even if it
// would be public: nobody needs it.
func (a addresses) allowed(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Zone() != "" {
		return false
	}
	if a.loopback && ip.IsLoopback() && !ip.Is4In6() {
		return true
	}
	if ip.Is6() && !a.unicast.Contains(ip) {
		return false
	}
	return !slices.ContainsFunc(a.refused, func(net netip.Prefix) bool { return net.Contains(ip) })
}
