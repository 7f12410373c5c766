package holdfast_test

import (
	"go/parser"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// layer is a group of packages and what they may import. A package below a listed one belongs to it,
// unless it is listed itself.
type layer struct {
	name     string
	packages []string
	// sees are the layers below. A layer that names itself may import its own packages.
	sees []string
}

// layers is docs/development.md's table, from the bottom up. It is complete both ways: a package
// without a layer fails, and so does a name without a package.
var layers = []layer{
	{
		"leaf",
		[]string{
			"internal/breaker", "internal/budget", "internal/bulkhead", "internal/condition",
			"internal/fairshare", "internal/fault", "internal/fsm", "internal/invariant", "internal/money",
			"internal/problem",
		},
		nil,
	},
	{"contract", []string{"api"}, nil},
	{"schema", []string{"db/migrations"}, nil},
	{
		"platform",
		[]string{
			"internal/config", "internal/groupcommit", "internal/jobqueue", "internal/outbound",
			"internal/pgtx", "internal/slots", "internal/telemetry", "internal/tracing",
		},
		[]string{"leaf", "platform"},
	},
	{"server", []string{"internal/privatepg"}, []string{"leaf"}},
	{
		"mechanism",
		[]string{
			"internal/broker", "internal/cloudevent", "internal/idempotency", "internal/mode",
			"internal/outbox", "internal/tenancy", "internal/webhook",
		},
		[]string{"leaf", "platform", "mechanism"},
	},
	{
		"resource",
		[]string{"internal/inventory", "internal/ledger"},
		[]string{"leaf", "platform", "mechanism"},
	},
	{
		"domain",
		[]string{"internal/order", "internal/transfer"},
		[]string{"leaf", "platform", "mechanism", "resource"},
	},
	{
		"transport",
		[]string{"internal/httpapi"},
		[]string{"leaf", "contract", "platform", "mechanism", "resource", "domain"},
	},
	{"client", []string{"client"}, []string{"leaf"}},
	{
		"wiring",
		[]string{"internal/app"},
		[]string{
			"leaf", "contract", "schema", "platform", "mechanism", "resource", "domain", "transport",
		},
	},
	{"simulation", []string{"loadtest/simdep"}, []string{"leaf"}},
	{
		"command",
		[]string{"cmd/api", "cmd/worker", "cmd/ctl", "internal/problem/cmd/errordoc"},
		[]string{
			"leaf", "contract", "schema", "platform", "server", "mechanism", "resource", "domain",
			"transport", "wiring", "simulation",
		},
	},
	{
		"test side",
		[]string{"internal/pgtest", "internal/order/ordertest", "internal/transfer/transfertest", "loadtest"},
		[]string{
			"leaf", "contract", "schema", "platform", "server", "mechanism", "resource", "domain",
			"transport", "client", "wiring", "simulation", "test side",
		},
	},
}

// goPackages maps the folder of each package to the packages of ours that its own files import.
func goPackages(t *testing.T) map[string][]string {
	t.Helper()
	module := regexp.MustCompile(`(?m)^module (\S+)$`).FindStringSubmatch(read(t, "go.mod"))[1]
	packages := map[string][]string{}
	for _, file := range tree(t, ".go") {
		if isTest(file) {
			continue
		}
		dir := path.Dir(file)
		imports := packages[dir]
		if imports == nil {
			imports = []string{}
		}
		for _, spec := range parse(t, file, parser.ImportsOnly).Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			if ours, ok := strings.CutPrefix(imported, module+"/"); ok && !slices.Contains(imports, ours) {
				imports = append(imports, ours)
			}
		}
		packages[dir] = imports
	}
	return packages
}

// layerOf finds the layer of a package and the listed package that it belongs to.
func layerOf(pkg string) (layer, string) {
	for owner := pkg; owner != "."; owner = path.Dir(owner) {
		for _, l := range layers {
			if slices.Contains(l.packages, owner) {
				return l, owner
			}
		}
	}
	return layer{}, ""
}

func TestEveryPackageHasALayer(t *testing.T) {
	t.Parallel()
	for pkg := range goPackages(t) {
		if l, _ := layerOf(pkg); l.name == "" {
			t.Errorf("%s has no layer: give it one in layers_test.go and a rule in .golangci.yaml", pkg)
		}
	}
	for _, l := range layers {
		for _, pkg := range l.packages {
			if entries, err := os.ReadDir(filepath.FromSlash(pkg)); err != nil || len(entries) == 0 {
				t.Errorf("layer %s names %s, which does not exist", l.name, pkg)
			}
		}
	}
}

func TestImportsPointDownwards(t *testing.T) {
	t.Parallel()
	for pkg, imports := range goPackages(t) {
		upper, upperOwner := layerOf(pkg)
		for _, imported := range imports {
			lower, lowerOwner := layerOf(imported)
			if lowerOwner != upperOwner && !slices.Contains(upper.sees, lower.name) {
				t.Errorf("%s (%s) imports %s (%s)", pkg, upper.name, imported, lower.name)
			}
		}
	}
}

func TestLayersSeeOnlyWhatIsBelow(t *testing.T) {
	t.Parallel()
	below := map[string]bool{}
	for _, l := range layers {
		for _, seen := range l.sees {
			require.True(t, below[seen] || seen == l.name, "%s sees %s, which is not below it", l.name, seen)
		}
		below[l.name] = true
	}
}

// TestOnlyListedLayersImportThemselves keeps domains, resources and transports apart from each other.
func TestOnlyListedLayersImportThemselves(t *testing.T) {
	t.Parallel()
	for _, l := range layers {
		if slices.Contains(l.sees, l.name) {
			require.Contains(t, []string{"platform", "mechanism", "test side"}, l.name)
		}
	}
}

// TestTheMapShowsEveryPackage keeps AGENTS.md's map of packages complete.
func TestTheMapShowsEveryPackage(t *testing.T) {
	t.Parallel()
	agents := read(t, "AGENTS.md")
	for _, l := range layers {
		for _, pkg := range l.packages {
			require.Contains(t, agents, "`"+pkg+"`", "the map in AGENTS.md has to name it")
		}
	}
}
