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
	// Points are the score, of 100, of a scenario that has one. They mean nothing unless all claims hold.
	Points float64 `json:"points,omitempty"`
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

// bites turns the claims of a scenario whose promise is switched off into claims that they fail: each of the
// names has to begin that of one that failed.
func (o *Outcome) bites(names []string) {
	var claims []Claim
	for _, name := range names {
		c := Claim{Name: "fails: " + name, Expected: "it fails", Measured: "it was not claimed"}
		for _, one := range o.Claims {
			if strings.HasPrefix(one.Name, name) && !c.Holds {
				c.Holds = !one.Holds
				c.Measured = fmt.Sprintf("expected %s, measured %s", one.Expected, one.Measured)
			}
		}
		claims = append(claims, c)
	}
	for _, one := range o.Claims {
		if !one.Holds {
			o.Figures = append(o.Figures, Figure{"failed: " + one.Name, one.Measured})
		}
	}
	o.Claims, o.Points = claims, 0
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
		"| scenario | verdict | claims | score | seconds |\n|---|---|---|---|---|\n",
		r.At, r.Seconds, r.Scale, r.Machine, r.Postgres)
	for _, o := range r.Outcomes {
		row(&b, o.title(), o.verdict(), o.held(), o.score(), fmt.Sprintf("%.0f", o.Seconds))
	}
	b.WriteString("\n| scenario | claim | expected | measured | verdict |\n|---|---|---|---|---|\n")
	for _, o := range r.Outcomes {
		o.rows(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func row(b *strings.Builder, cells ...string) {
	for i, c := range cells {
		cells[i] = strings.NewReplacer("|", "/", "\n", " ").Replace(c)
	}
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

// verdict is what the whole came to.
func (o *Outcome) verdict() string {
	switch {
	case o.Skipped != "":
		return "skipped"
	case o.Error != "":
		return "**BROKEN OFF**"
	case o.holds():
		return "holds"
	}
	return "**FAILS**"
}

// held is how many claims hold, of all.
func (o *Outcome) held() string {
	n := 0
	for _, c := range o.Claims {
		if c.Holds {
			n++
		}
	}
	return fmt.Sprintf("%d of %d", n, len(o.Claims))
}

// score is empty for what has none, or has not earned it.
func (o *Outcome) score() string {
	if o.Points == 0 || !o.holds() {
		return ""
	}
	return fmt.Sprintf("%.0f", o.Points)
}

func (o *Outcome) rows(b *strings.Builder) {
	for _, c := range o.Claims {
		verdict := "holds"
		if !c.Holds {
			verdict = "**FAILS**"
		}
		row(b, o.title(), c.Name, c.Expected, c.Measured, verdict)
	}
	for _, f := range o.Figures {
		row(b, o.title(), f.Name, "", f.Measured, "")
	}
	if o.Skipped != "" {
		row(b, o.title(), "", "", o.Skipped, "skipped")
	}
	if o.Error != "" {
		row(b, o.title(), "", "", o.Error, "**BROKEN OFF**")
	}
}
