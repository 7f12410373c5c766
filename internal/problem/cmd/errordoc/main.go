// Command errordoc writes docs/errors.md from the table of problems: what each code means and what a
// client may do next. It reads nothing else, so the page cannot say more than the program does.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"example.com/holdfast/internal/problem"
)

func main() {
	if _, err := io.WriteString(os.Stdout, page()); err != nil {
		fmt.Fprintln(os.Stderr, "errordoc: write page:", err)
		os.Exit(1) //nolint:forbidigo // the command's own exit
	}
}

// head stands in front of the table; ' stands for the backquote that a raw string cannot hold.
const head = `# Errors

<!-- Written by go run ./internal/problem/cmd/errordoc > docs/errors.md; change the table instead. -->

A request that is refused gets a problem (RFC 9457, 'application/problem+json'). Programs go by its
'code'; people read 'detail' and, for each wrong part of the request, 'errors'. 'request_id' names the
request when you ask for help, and 'trace_id' its trace where it is traced. The same texts are served at
'/problems'.

- **Same key again**: the same request with the same Idempotency-Key may succeed later. Wait for
  'Retry-After' if it is there.
- **New key**: nothing happened under this key and nothing will, so a changed request may be sent under
  a new one. Where it says no, send the same request with the same key until the answer is another one: who
  takes a new key after an answer was lost, and the next one said 429 or 503, may pay twice.
- **Stored**: the refusal was decided on the state of things. The same request with the same key gets
  it again, also when the state has changed; use a new key.

The codes stand in the order in which a request is checked: the first that applies is the answer.

| code | status | same key again | new key | stored |
|---|---|---|---|---|
`

// page is the text of docs/errors.md.
func page() string {
	var b strings.Builder
	b.WriteString(strings.ReplaceAll(head, "'", "`"))
	table := problem.Table()
	for _, m := range table {
		fmt.Fprintf(&b, "| [%s](#%s) | %d | %s | %s | %s |\n",
			m.Code, m.Code, m.Status, word(m.Retryable), word(m.SafeNewKey), word(m.Stored))
	}
	for _, m := range table {
		fmt.Fprintf(&b, "\n## %s\n\n%d. %s. %s\n", m.Code, m.Status, m.Title, m.Advice)
	}
	return b.String()
}

func word(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
