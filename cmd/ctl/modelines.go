package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/mode"
)

// What the commands of the mode print; see lines.go.
const (
	overviewHeader = "MODE\tSINCE\tJUDGED\tSINCE\tCONTROL\tUNTIL\tVERSION\tBY\tREASON"
	signalHeader   = "SIGNAL\tNOW\tCONSTRAINED: ENTER\tLEAVE\tPROTECTION: ENTER\tLEAVE"
	followerHeader = "PROCESS\tFOLLOWS\tREPORTED\tPOLICY"
	overrideHeader = "MODE\tCONTROL\tUNTIL\tVERSION\tBY\tREASON"
	changeHeader   = "VERSION\tAT\tFROM\tTO\tJUDGED\tCONTROL\tUNTIL\tCAUSE\tBY\tREASON"
	courseHeader   = "\tAT\tFROM\tTO\tREASON"
	lastedHeader   = "MODE\tWOULD HAVE LASTED\tLASTED"
)

// hashShown is how many digits of a policy's hash stand in a table.
const hashShown = 12

// modeLine is the mode with what belongs to it.
type modeLine struct {
	Mode       mode.Mode    `json:"mode"`
	Since      time.Time    `json:"since"`
	Level      mode.Mode    `json:"level"`
	LevelSince time.Time    `json:"level_since"`
	Control    mode.Control `json:"control"`
	Version    int64        `json:"version"`
	Actor      string       `json:"actor"`
	Reason     string       `json:"reason"`
	ExpiresAt  time.Time    `json:"expires_at,omitzero"`
	// Policy is that by which was judged last, OwnPolicy that of this command, whose thresholds are told.
	Policy    string         `json:"policy"`
	OwnPolicy string         `json:"own_policy"`
	Now       time.Time      `json:"now"`
	SampledAt time.Time      `json:"sampled_at,omitzero"`
	Signals   []signalLine   `json:"signals"`
	Followers []followerLine `json:"followers"`
}

func lineOfMode(n httpapi.ModeNow) modeLine {
	line := modeLine{
		Mode: n.Mode, Since: n.Since.UTC(), Level: n.Level, LevelSince: n.LevelSince.UTC(),
		Control: n.Control, Version: n.Version, Actor: n.Actor, Reason: n.Reason,
		ExpiresAt: n.ExpiresAt.UTC(), Policy: n.State.Policy,
		OwnPolicy: n.Policy.Hash(), Now: n.Now.UTC(), Followers: []followerLine{},
	}
	if n.Latest != nil {
		line.SampledAt = n.Latest.At.UTC()
	}
	for _, s := range mode.Signals() {
		line.Signals = append(line.Signals, lineOfSignal(s, n.Policy, n.Latest))
	}
	for _, f := range n.Followers {
		line.Followers = append(line.Followers, followerLine{
			f.Instance, f.Follows, f.Behind, f.Policy, f.OtherPolicy, f.Age.Seconds(),
		})
	}
	return line
}

// write prints it as tables, one below the other.
func (l modeLine) write(out io.Writer) error {
	if err := show(out, false, []modeLine{l}, overviewHeader); err != nil {
		return err
	}
	switch {
	case l.SampledAt.IsZero():
		_, _ = fmt.Fprintln(out, "\nNobody has taken a sample in the last minute. The thresholds:")
	default:
		_, _ = fmt.Fprintf(out, "\nThe signals of %v ago, with the thresholds:\n",
			l.Now.Sub(l.SampledAt).Round(time.Second))
	}
	if err := show(out, false, l.Signals, signalHeader); err != nil {
		return err
	}
	if l.Policy != "" && l.Policy != l.OwnPolicy {
		_, _ = fmt.Fprintf(out,
			"These are of the policy %s. Judged was by another, %s: see HOLDFAST_POLICY_FILE.\n",
			short(l.OwnPolicy), short(l.Policy))
	}
	_, _ = fmt.Fprintln(out)
	if len(l.Followers) == 0 {
		_, err := fmt.Fprintln(out, "No process has reported in the last minute.")
		return err
	}
	return show(out, false, l.Followers, followerHeader)
}

func (l modeLine) cells() []string {
	return []string{
		string(l.Mode), sinceOf(l.Since), string(l.Level), sinceOf(l.LevelSince), string(l.Control),
		untilOf(l.ExpiresAt), strconv.FormatInt(l.Version, 10), cell(l.Actor), cell(l.Reason),
	}
}

// sinceOf is when something began. What has been so for ever began at Unix's epoch.
func sinceOf(t time.Time) string {
	if t.Unix() == 0 {
		return "-"
	}
	return clock(t)
}

func untilOf(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return clock(t)
}

func short(hash string) string { return hash[:min(len(hash), hashShown)] }

type signalLine struct {
	Signal mode.Signal `json:"signal"`
	// Value is left out where there is no sample.
	Value       *float64        `json:"value,omitempty"`
	Constrained *mode.Threshold `json:"constrained,omitempty"`
	Protection  *mode.Threshold `json:"protection,omitempty"`
}

func lineOfSignal(s mode.Signal, p *mode.Policy, latest *mode.Sample) signalLine {
	threshold := func(level mode.Mode) *mode.Threshold {
		if t, ok := p.Levels[level][s]; ok {
			return &t
		}
		return nil
	}
	line := signalLine{
		Signal: s, Constrained: threshold(mode.Constrained), Protection: threshold(mode.Protection),
	}
	if latest != nil {
		if value, ok := latest.Values[s]; ok {
			line.Value = &value
		}
	}
	return line
}

func (l signalLine) cells() []string {
	cells := []string{string(l.Signal), "-"}
	if l.Value != nil {
		cells[1] = strconv.FormatFloat(*l.Value, 'g', 3, 64)
	}
	for _, t := range []*mode.Threshold{l.Constrained, l.Protection} {
		if t == nil {
			cells = append(cells, "-", "-")
			continue
		}
		cells = append(cells, fmt.Sprintf(">= %g", t.Enter), fmt.Sprintf("< %g", t.Leave))
	}
	return cells
}

type followerLine struct {
	Instance    string  `json:"instance"`
	Follows     int64   `json:"follows"`
	Behind      bool    `json:"behind"`
	Policy      string  `json:"policy"`
	OtherPolicy bool    `json:"other_policy"`
	AgeSeconds  float64 `json:"age_seconds"`
}

func (l followerLine) cells() []string {
	follows, policy := strconv.FormatInt(l.Follows, 10), short(l.Policy)
	if l.Behind {
		follows += " (behind)"
	}
	if l.OtherPolicy {
		policy += " (another)"
	}
	return []string{l.Instance, follows, strconv.FormatFloat(l.AgeSeconds, 'f', 1, 64) + " s ago", policy}
}

// overrideLine is what an operator has said, and what follows for the mode.
type overrideLine struct {
	Mode      mode.Mode    `json:"mode"`
	Control   mode.Control `json:"control"`
	ExpiresAt time.Time    `json:"expires_at,omitzero"`
	Version   int64        `json:"version"`
	Actor     string       `json:"actor"`
	Reason    string       `json:"reason"`
}

func lineOfOverride(s mode.State) overrideLine {
	return overrideLine{s.Mode, s.Control, s.ExpiresAt.UTC(), s.Version, s.Actor, s.Reason}
}

func (l overrideLine) cells() []string {
	return []string{
		string(l.Mode), string(l.Control), untilOf(l.ExpiresAt), strconv.FormatInt(l.Version, 10),
		cell(l.Actor), cell(l.Reason),
	}
}

type changeLine struct {
	Version   int64        `json:"version"`
	At        time.Time    `json:"at"`
	Before    mode.Mode    `json:"before"`
	Mode      mode.Mode    `json:"mode"`
	Level     mode.Mode    `json:"level"`
	Control   mode.Control `json:"control"`
	ExpiresAt time.Time    `json:"expires_at,omitzero"`
	Cause     string       `json:"cause"`
	Actor     string       `json:"actor"`
	Reason    string       `json:"reason"`
	Signals   []signalLine `json:"signals"`
	Policy    string       `json:"policy"`
}

func lineOfChange(c mode.Changed) changeLine {
	line := changeLine{
		c.Version, c.At.UTC(), c.Before, c.Mode, c.Level, c.Control, c.ExpiresAt.UTC(), c.Cause, c.Actor,
		c.Reason,
		[]signalLine{},
		c.Policy,
	}
	for _, s := range mode.Signals() {
		if value, ok := c.Signals[s]; ok {
			line.Signals = append(line.Signals, signalLine{Signal: s, Value: &value})
		}
	}
	return line
}

func (l changeLine) cells() []string {
	return []string{
		strconv.FormatInt(l.Version, 10), clock(l.At), string(l.Before), string(l.Mode), string(l.Level),
		string(l.Control), untilOf(l.ExpiresAt), l.Cause, cell(l.Actor), cell(l.Reason),
	}
}

// simulationLine is what a policy would have made of what was seen, beside what was in force.
type simulationLine struct {
	Policy  string       `json:"policy"`
	Control mode.Control `json:"control"`
	Samples int          `json:"samples"`
	From    time.Time    `json:"from,omitzero"`
	To      time.Time    `json:"to,omitzero"`
	Would   courseLine   `json:"would"`
	Was     courseLine   `json:"was"`
}

type courseLine struct {
	Switches []switchLine `json:"switches"`
	// Seconds is how long each mode lasted.
	Seconds map[mode.Mode]float64 `json:"seconds"`
}

type switchLine struct {
	At     time.Time    `json:"at"`
	From   mode.Mode    `json:"from"`
	To     mode.Mode    `json:"to"`
	Causes []mode.Cause `json:"causes,omitempty"`
	reason string
	course string
}

func lineOfSimulation(s mode.Simulation) simulationLine {
	return simulationLine{
		s.Policy.Hash(), s.Policy.Control, s.Samples, s.From.UTC(), s.To.UTC(),
		lineOfCourse("would", s.Would),
		lineOfCourse("was", s.Was),
	}
}

func lineOfCourse(name string, c mode.Course) courseLine {
	line := courseLine{Switches: []switchLine{}, Seconds: make(map[mode.Mode]float64)}
	for _, s := range c.Switches {
		line.Switches = append(line.Switches,
			switchLine{s.At.UTC(), s.From, s.To, s.Causes, s.Reason(), name})
	}
	for m, lasted := range maps.All(c.Lasted) {
		line.Seconds[m] = lasted.Seconds()
	}
	return line
}

// write prints the switches in the order of their times, and how long the modes lasted.
func (l simulationLine) write(out io.Writer) error {
	_, _ = fmt.Fprintf(out, "%d samples from %s to %s, by the policy %s.\n\n", l.Samples, clock(l.From),
		clock(l.To), short(l.Policy))
	switches := slices.Concat(l.Would.Switches, l.Was.Switches)
	slices.SortStableFunc(switches, func(a, b switchLine) int { return a.At.Compare(b.At) })
	if len(switches) == 0 {
		_, _ = fmt.Fprintln(out, "There was no switch, and there would have been none.")
	} else if err := show(out, false, switches, courseHeader); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out)
	var lasted []lastedLine
	for _, m := range mode.Modes() {
		lasted = append(lasted, lastedLine{m, l.Would.Seconds[m], l.Was.Seconds[m]})
	}
	if err := show(out, false, lasted, lastedHeader); err != nil {
		return err
	}
	if l.Control == mode.Advise {
		_, _ = fmt.Fprintln(out,
			"\nThis policy says advise: it would have told of these levels, and switched nothing.")
	}
	return nil
}

func (l switchLine) cells() []string {
	return []string{l.course, clock(l.At), string(l.From), string(l.To), orDash(l.reason)}
}

type lastedLine struct {
	mode       mode.Mode
	would, was float64
}

func (l lastedLine) cells() []string {
	took := func(seconds float64) string {
		return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
	}
	return []string{string(l.mode), took(l.would), took(l.was)}
}
