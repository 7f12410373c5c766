// Package scenario holds failure scenarios as files that people read: a load, a fault, what is expected of
// modes, conditions and metrics, the recovery, the invariants and the score, and which change of the program
// makes it fail. Package drill plays them.
//
// It refuses what it does not know: a member that no scenario has, a phase that is not played, a metric of
// no name. It plays nothing and reads no clock.
//
// Invariant: a scenario that Parse returns can be played: what its expectations speak of is in its steps and
// in its load.
package scenario

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"example.com/holdfast/internal/mode"
	"example.com/holdfast/loadtest/simdep"
)

//go:embed *.yaml
var files embed.FS

const (
	suffix       = ".yaml"
	fileMaxBytes = 64 << 10
)

// Scenario is one file.
type Scenario struct {
	// Name is that of the file, without its suffix.
	Name string `yaml:"-"`
	// About says in a line what happens, Promise what is at stake.
	About   string `yaml:"about"`
	Promise string `yaml:"promise"`
	// Fast puts it into the subset that takes a few minutes.
	Fast bool `yaml:"fast"`

	// Workers and APIs are how many of each process run, Tenants how many send, Units how many units there
	// are of what buyers want.
	Workers int `yaml:"workers"`
	APIs    int `yaml:"apis"`
	Tenants int `yaml:"tenants"`
	Units   int `yaml:"units"`
	// Settings are the processes', Postgres those of its server.
	Settings map[string]string `yaml:"settings"`
	Postgres map[string]string `yaml:"postgres"`
	// Calm turns dependencies from the start, and is what a step turns them back to.
	Calm map[Dependency]Knobs `yaml:"calm"`

	Load       []Stream      `yaml:"load"`
	Steps      []Step        `yaml:"steps"`
	Expect     []Expectation `yaml:"expect"`
	Invariants []Invariant   `yaml:"invariants"`
	Recovery   Recovery      `yaml:"recovery"`
	// Score is how many of 100 points each measure is worth.
	Score  map[Measure]int `yaml:"score"`
	Broken Broken          `yaml:"broken"`
}

// Dependency names a simulated dependency. The set is closed.
type Dependency string

// The dependencies.
const (
	Risk   Dependency = "risk"
	Notify Dependency = "notify"
	Rail   Dependency = "rail"
)

// Knobs are those of a dependency, with the names that its page has: latency, error_rate and so on.
type Knobs struct{ simdep.Knobs }

// UnmarshalYAML reads knobs, and refuses one that there is not.
func (k *Knobs) UnmarshalYAML(node *yaml.Node) error {
	var members map[string]any
	if err := node.Decode(&members); err != nil {
		return err
	}
	text, err := json.Marshal(members)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&k.Knobs); err != nil {
		return fmt.Errorf("line %d: knobs: %w", node.Line, err)
	}
	return k.Validate()
}

// Send is a kind of request. The set is closed.
type Send string

// The kinds of requests. Cancels and approvals are of transfers that were put into review before the load.
const (
	Transfers Send = "transfers"
	Payouts   Send = "payouts"
	Orders    Send = "orders"
	Reads     Send = "reads"
	Cancels   Send = "cancels"
	Approvals Send = "approvals"
	// Buyers place orders of one unit of what there are Units of.
	Buyers Send = "buyers"
)

// Clients say how those who send behave. The set is closed.
type Clients string

// The behaviours of clients.
const (
	// Plain ones send once and wait for the answer.
	Plain Clients = ""
	// The outcome of the others is counted as a whole: they have a tenant of their own.

	// Insistent ones wait for a second, and ask again with the same key until there is an answer for good.
	Insistent Clients = "insistent"
	// Copying ones send each request three times at the same moment, now and then with another body.
	Copying Clients = "copying"
)

// Stream is one kind of request at a rate that waits for nobody: an open loop.
type Stream struct {
	// Name tells streams apart; it is what is sent unless it says otherwise.
	Name string `yaml:"name"`
	Send Send   `yaml:"send"`
	// Rate is in requests a second.
	Rate    float64 `yaml:"rate"`
	Clients Clients `yaml:"clients"`
	// Class is that of the key, standard if it is empty; Tenant is who sends, from 1 on.
	Class  string `yaml:"class"`
	Tenant int    `yaml:"tenant"`
}

// Step is a part of the load that is looked at on its own. First what it turns and changes is changed, then
// its fault lasts for as long as it does.
type Step struct {
	Phase string        `yaml:"phase"`
	For   time.Duration `yaml:"for"`
	// Until ends the step when something has come.
	Until Until `yaml:"until"`
	// Turn sets all knobs of dependencies: those that are not named are as in Calm.
	Turn map[Dependency]Knobs `yaml:"turn"`
	// Load takes the place of the load before.
	Load  []Stream  `yaml:"load"`
	Pin   mode.Mode `yaml:"pin"`
	Fault Fault     `yaml:"fault"`
	Times int       `yaml:"times"`
}

// Fault is what befalls a process. The set is closed.
type Fault string

// The faults.
const (
	// None leaves all processes alone.
	None Fault = ""
	// KillWorker kills the oldest worker with work in hand and starts another, as many times as the step
	// says.
	KillWorker Fault = "kill worker"
	// PauseWorker stops the oldest worker with work in hand for as long as the step lasts.
	PauseWorker Fault = "pause worker"
	// CrashPostgres ends PostgreSQL without a checkpoint and starts it again, as many times as the step says.
	CrashPostgres Fault = "crash postgres"
	// KeepPostgresAway ends it so and starts it again when the step ends.
	KeepPostgresAway Fault = "keep postgres away"
	// FreezePostgres stops all its processes for as long as the step lasts.
	FreezePostgres Fault = "freeze postgres"
)

// Until is what a step waits for, and for how long at most.
type Until struct {
	// Accepted is how many transfers and orders are accepted, in all.
	Accepted int       `yaml:"accepted"`
	Mode     mode.Mode `yaml:"mode"`
	// Closed are the dependencies whose circuit breakers are closed again.
	Closed Dependency    `yaml:"closed"`
	Within time.Duration `yaml:"within"`
}

// Any says whether there is something to wait for.
func (u Until) Any() bool { return u != Until{} }

// Recovery is how soon after a phase began all is well that was accepted before.
type Recovery struct {
	From   string        `yaml:"from"`
	Within time.Duration `yaml:"within"`
}

// Invariant is a query for breaks: each row has one column that says what is broken.
type Invariant struct {
	Name string `yaml:"name"`
	SQL  string `yaml:"sql"`
}

// Measure is a part of a score, between 0 and 1. The set is closed.
type Measure string

// The measures.
const (
	// Kept is the part of what was accepted that came to a good end within its promise.
	Kept Measure = "kept"
	// Answered is the part of the requests that got what they asked for.
	Answered Measure = "answered"
	// GoodputKept is how many transfers settled a second in the phase "fault", of those in the phase "calm".
	GoodputKept Measure = "goodput"
	// Recovered is 1 for what is well at once, and 0 at the bound of the recovery.
	Recovered Measure = "recovered"
)

// The phases that GoodputKept compares.
const (
	CalmPhase  = "calm"
	FaultPhase = "fault"
)

// scoreTotal is what all measures of a scenario are worth together.
const scoreTotal = 100

// Broken is a change that switches a promise off, and which expectations it breaks.
type Broken struct {
	// About says what is switched off.
	About string `yaml:"about"`
	// Settings and Postgres are set besides.
	Settings map[string]string `yaml:"settings"`
	Postgres map[string]string `yaml:"postgres"`
	// SQL is run in the database before the processes start.
	SQL string `yaml:"sql"`
	// Changes are made to a copy of the program.
	Changes []Change `yaml:"changes"`
	// Fails are the claims of which one at least fails, by how their names begin.
	Fails []string `yaml:"fails"`
}

// IsZero says that a scenario has no broken variant.
func (b Broken) IsZero() bool {
	return b.About == "" && len(b.Settings)+len(b.Postgres)+len(b.Changes)+len(b.Fails) == 0 && b.SQL == ""
}

// Change is one of a file of the program: From occurs in it once, and To takes its place.
type Change struct {
	File string `yaml:"file"`
	From string `yaml:"from"`
	To   string `yaml:"to"`
}

// All returns the scenarios of this repository, by name.
func All() ([]Scenario, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var all []Scenario
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, err
		}
		s, err := Parse(strings.TrimSuffix(e.Name(), suffix), text)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// Show writes the file of a scenario.
func Show(w io.Writer, name string) error {
	text, err := files.ReadFile(name + suffix)
	if err != nil {
		return fmt.Errorf("there is no file of a scenario %q: see the list", name)
	}
	_, err = w.Write(text)
	return err
}

// Load reads the scenario of a file.
func Load(name string) (Scenario, error) {
	about, err := os.Stat(name)
	if err != nil {
		return Scenario{}, fmt.Errorf("read scenario: %w", err)
	}
	if about.Size() > fileMaxBytes {
		return Scenario{}, fmt.Errorf("read scenario %s: it is larger than %d bytes", name, fileMaxBytes)
	}
	text, err := os.ReadFile(name) //nolint:gosec // the one who drills names the file
	if err != nil {
		return Scenario{}, fmt.Errorf("read scenario: %w", err)
	}
	return Parse(strings.TrimSuffix(path.Base(name), suffix), text)
}

// Parse reads a scenario. The error has everything that is wrong with it.
func Parse(name string, text []byte) (Scenario, error) {
	s := Scenario{Workers: workersDefault, APIs: 1, Tenants: 1}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	err := decoder.Decode(&s)
	s.Name = name
	s.nameStreams()
	if _, unreadable := errors.AsType[*yaml.TypeError](err); err == nil || unreadable {
		err = errors.Join(err, s.validate())
	}
	if err != nil {
		return Scenario{}, fmt.Errorf("scenario %s: %w", name, err)
	}
	return s, nil
}

// workersDefault is how many workers a scenario has that does not say it.
const workersDefault = 2

// nameStreams gives each stream its name and its tenant.
func (s *Scenario) nameStreams() {
	for _, load := range s.loads() {
		for i := range load {
			if load[i].Name == "" {
				load[i].Name = string(load[i].Send)
			}
			load[i].Tenant = max(load[i].Tenant, 1)
		}
	}
}

// loads are the first load and those of the steps.
func (s *Scenario) loads() [][]Stream {
	all := [][]Stream{s.Load}
	for _, step := range s.Steps {
		all = append(all, step.Load)
	}
	return all
}

// Streams are all streams of a scenario, each once.
func (s *Scenario) Streams() map[string]Stream {
	all := map[string]Stream{}
	for _, load := range s.loads() {
		for _, one := range load {
			all[one.Name] = one
		}
	}
	return all
}

// Lasts is how long the steps take, without what they wait for.
func (s *Scenario) Lasts() time.Duration {
	var all time.Duration
	for _, step := range s.Steps {
		all += step.For + step.Until.Within
	}
	return all
}
