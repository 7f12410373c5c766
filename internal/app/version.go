package app

import "runtime/debug"

// stamp is the version that a build outside of a checkout was given:
// go build -ldflags '-X example.com/holdfast/internal/app.stamp=v1.2.3'.
//
//nolint:gochecknoglobals // the linker writes variables only
var stamp string

// Version names the build: what it was stamped with, or the commit that it was built from, or the module's
// version.
func Version() string {
	if stamp != "" {
		return stamp
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}
