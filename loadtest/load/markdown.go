package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Markdown writes the report for people. Its pictures are those of Plots, in the same folder.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	verdict := "**Every claim holds.**"
	if !r.Holds() {
		verdict = "**A CLAIM DOES NOT HOLD.**"
	}
	if r.Interrupted {
		verdict += " Ended before its time."
	}
	fmt.Fprintf(&b, "# Load: %s, %s, %g/s\n\n%s\n\n", r.Mix, r.Profile, r.Rate, verdict)
	fmt.Fprintf(&b, "%s UTC, %s, %g s, %s arrivals, seed %d, %d callers, %d accounts for each of %d "+
		"tenants. Load generator:\n%s.\n\n",
		r.At, r.Target, r.Seconds, r.Arrivals, r.Seed, r.Callers, r.Accounts, r.Tenants, r.Machine)
	r.verdict(&b)
	r.figures(&b)
	r.refusals(&b)
	r.endings(&b)
	b.WriteString("## Over time\n\n![Requests](rates.svg)\n\n![Latency](latency.svg)\n\n" +
		"![Percentiles](percentiles.svg)\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// row writes a row of a table.
func row(b *strings.Builder, cells ...string) {
	for i, c := range cells {
		cells[i] = strings.NewReplacer("|", "/", "\n", " ").Replace(c)
	}
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

func (r *Report) verdict(b *strings.Builder) {
	b.WriteString("## Verdict\n\n| claim | checked | broken | for example |\n|---|---|---|---|\n")
	for _, c := range r.Claims {
		broken := "0"
		if !c.Holds() {
			broken = fmt.Sprintf("**%d**", c.Broken)
		}
		row(b, c.Name, strconv.Itoa(c.Checked), broken, strings.Join(c.Examples, "; "))
	}
}

// parts are all shares of the report, in its order.
func (r *Report) parts() []Share {
	return slices.Concat([]Share{r.Whole}, r.stages(), r.Kinds, r.Classes)
}

// stages are those of a profile that has more than one.
func (r *Report) stages() []Share {
	if len(r.Stages) == 1 {
		return nil
	}
	return r.Stages
}

func (r *Report) figures(b *strings.Builder) {
	b.WriteString("\n## Figures\n\n" +
		"Latencies are in milliseconds. An answer's counts from when its request was due; \"ended\" is the " +
		"time from\nacceptance to the end of a transfer or order, by Postgres's clock. Goodput is what " +
		"settled or was confirmed within its\npromise.\n\n" +
		"| part | offered/s | sent | good | refused | wrong | no answer | answer p50 | p99 | p99.9 | max " +
		"| ended p50 | p99 | goodput/s |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, s := range r.parts() {
		row(b, s.Name, figure(s.OfferedPerSecond), count(s.Sent), count(s.Good), count(s.Refused),
			count(s.Wrong), count(s.Failed), figure(s.Answer.P50), figure(s.Answer.P99),
			figure(s.Answer.P999), figure(s.Answer.Max), figure(s.Completed.P50), figure(s.Completed.P99),
			figure(s.GoodputPerSecond))
	}
	fmt.Fprintf(b, "\nThe load generator sent its requests p50 %s, p99 %s, at most %s ms after they were "+
		"due; that is part of every\nanswer's latency. The last end came %.1f s after the last acceptance; "+
		"the feed had told of all %.1f s after the last answer.\n",
		figure(r.Late.P50), figure(r.Late.P99), figure(r.Late.Max), r.DrainSeconds, r.FeedSeconds)
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

// figure is a number with as many digits as one can believe.
func figure(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func (r *Report) refusals(b *strings.Builder) {
	b.WriteString("\n## Refusals, by class of traffic\n\n" +
		"| class | sent | refused | by code | refusal p99 ms | Retry-After |\n|---|---|---|---|---|---|\n")
	for _, s := range r.Classes {
		told := "none"
		if s.Told > 0 {
			told = fmt.Sprintf("%s to %s s, mean %s s, on %d", figure(s.RetryAfterMin),
				figure(s.RetryAfterMax), figure(s.RetryAfterMean), s.Told)
		}
		share := 0.0
		if s.Sent > 0 {
			share = 100 * float64(s.Refused) / float64(s.Sent)
		}
		row(b, s.Name, count(s.Sent), fmt.Sprintf("%d (%.1f %%)", s.Refused, share), tallied(s.Codes),
			figure(s.Refusal.P99), told)
	}
}

func (r *Report) endings(b *strings.Builder) {
	b.WriteString("\n## How it ended\n\n" +
		"| part | accepted | ended | succeeded within the promise |\n|---|---|---|---|\n")
	for _, s := range r.parts() {
		if s.Accepted > 0 {
			row(b, s.Name, strconv.Itoa(s.Accepted), tallied(s.Ends), strconv.Itoa(s.Succeeded))
		}
	}
	if len(r.Whole.Others) > 0 {
		fmt.Fprintf(b, "\nAnswers that no load should get: %s.\n", tallied(r.Whole.Others))
	}
	b.WriteString("\n")
}

// tallied lists what was counted by name.
func tallied[N uint64 | int](counts map[string]N) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(all, ", ")
}
