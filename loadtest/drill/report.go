package drill

import (
	"fmt"
	"io"
	"strings"
)

// Outcome is what one variant of a scenario came to.
type Outcome struct {
	Scenario string  `json:"scenario"`
	Variant  string  `json:"variant,omitempty"`
	Seconds  float64 `json:"seconds"`
	Claims   []Claim `json:"claims"`
	// Figures were measured and are held to nothing.
	Figures []Figure `json:"figures,omitempty"`
	// Skipped says why the scenario was not played, Error why it was broken off.
	Skipped string `json:"skipped,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Figure is something that was measured.
type Figure struct {
	Name     string `json:"name"`
	Measured string `json:"measured"`
}

// title names the outcome.
func (o *Outcome) title() string {
	if o.Variant == "" {
		return o.Scenario
	}
	return o.Scenario + " (" + o.Variant + ")"
}

// holds says that the scenario was played to its end and every claim holds, or that it was skipped.
func (o *Outcome) holds() bool {
	if o.Error != "" || o.Skipped == "" && len(o.Claims) == 0 {
		return false
	}
	for _, c := range o.Claims {
		if !c.Holds {
			return false
		}
	}
	return true
}

// Report is a whole run.
type Report struct {
	At       string    `json:"at"`
	Machine  string    `json:"machine"`
	Postgres string    `json:"postgres"`
	Scale    float64   `json:"scale"`
	Seconds  float64   `json:"seconds"`
	Outcomes []Outcome `json:"outcomes"`
}

// Holds says that no claim failed and no scenario was broken off.
func (r *Report) Holds() bool {
	for _, o := range r.Outcomes {
		if !o.holds() {
			return false
		}
	}
	return len(r.Outcomes) > 0
}

// Markdown writes the report for people.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s UTC in %.0f s at scale %g: %s, PostgreSQL %s.\n\n"+
		"| scenario | claim | expected | measured | verdict |\n|---|---|---|---|---|\n",
		r.At, r.Seconds, r.Scale, r.Machine, r.Postgres)
	for _, o := range r.Outcomes {
		o.rows(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (o *Outcome) rows(b *strings.Builder) {
	row := func(cells ...string) {
		for i, c := range cells {
			cells[i] = strings.NewReplacer("|", "/", "\n", " ").Replace(c)
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
	}
	for _, c := range o.Claims {
		verdict := "holds"
		if !c.Holds {
			verdict = "**FAILS**"
		}
		row(o.title(), c.Name, c.Expected, c.Measured, verdict)
	}
	for _, f := range o.Figures {
		row(o.title(), f.Name, "", f.Measured, "")
	}
	if o.Skipped != "" {
		row(o.title(), "", "", o.Skipped, "skipped")
	}
	if o.Error != "" {
		row(o.title(), "", "", o.Error, "**BROKEN OFF**")
	}
}
