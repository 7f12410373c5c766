package drill

import (
	"os"
	"path/filepath"
	"runtime"
)

// fakerPattern is where Debian's libfaketime lies, for each kind of machine.
const fakerPattern = "/usr/lib/*/faketime/libfaketime.so.1"

// faker finds libfaketime, or "".
func faker() string {
	found, err := filepath.Glob(fakerPattern)
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[0]
}

// faketime is the environment of a server whose clock is off by an offset such as -2h. What waits by the
// monotonic clock is left alone.
func faketime(offset string) []string {
	if offset == "" {
		return nil
	}
	return []string{
		"LD_PRELOAD=" + faker(), "FAKETIME=" + offset, "FAKETIME_DONT_FAKE_MONOTONIC=1",
		"FAKETIME_NO_CACHE=0", "FAKETIME_DONT_RESET=1",
	}
}

// cannotFake says why a clock cannot be set off here, or "".
func cannotFake(offset string) string {
	if offset == "" {
		return ""
	}
	if runtime.GOOS != "linux" || faker() == "" {
		return "libfaketime is not there (apt install libfaketime)"
	}
	if _, err := os.Stat(faker()); err != nil {
		return err.Error()
	}
	return ""
}
