package privatepg

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Advice says in one line how to get a PostgreSQL on this kind of machine.
func Advice(goos string, euid int, hasSudo, hasApt bool) string {
	otherwise := "; or set DATABASE_URL to a PostgreSQL 15 to 18 of yours" +
		", or PG_BIN_DIR to the folder that holds initdb and postgres"
	return install(goos, euid, hasSudo, hasApt) + otherwise
}

func install(goos string, euid int, hasSudo, hasApt bool) string {
	if goos == "darwin" {
		return "run `brew install postgresql@17`"
	}
	asRoot := ""
	switch {
	case euid == 0:
	case hasSudo:
		asRoot = "sudo "
	default:
		return "as root run `apt-get install postgresql` (Debian, Ubuntu)" +
			" or `dnf install postgresql-server` (Fedora)"
	}
	if hasApt {
		return "run `" + asRoot + "apt-get update && " + asRoot + "apt-get install -y postgresql`"
	}
	return "run `" + asRoot + "dnf install postgresql-server` (Fedora)" +
		" or install the PostgreSQL server with this system's package manager"
}

func adviceHere(env func(string) string) string {
	path := "/usr/sbin:/usr/bin:/sbin:/bin"
	if env != nil {
		path = env("PATH")
	}
	has := func(program string) bool {
		for dir := range strings.SplitSeq(path, string(os.PathListSeparator)) {
			if isProgram(filepath.Clean(dir), program) {
				return true
			}
		}
		return false
	}
	return Advice(runtime.GOOS, os.Geteuid(), has("sudo"), has("apt-get"))
}
