package cloudevent

import (
	"bytes"
	"encoding/json"

	"github.com/go-json-experiment/json/jsontext"
)

// writer writes an object member by member, in the order of the calls: the same calls are the same bytes.
// Each event is written anew for every reader of the log, and this takes half the time of encoding/json.
type writer struct {
	out   bytes.Buffer
	depth int
	err   error
}

// open begins an object that goes on until the end. Only the outermost one has no name.
func (w *writer) open(name string) {
	if name != "" {
		w.name(name)
	}
	w.out.WriteByte('{')
	w.depth++
}

func (w *writer) text(name, value string) {
	w.name(name)
	w.quote(value)
}

// optional writes a member, or none for an empty text.
func (w *writer) optional(name, value string) {
	if value != "" {
		w.text(name, value)
	}
}

// json writes a member that is JSON already, without the space in it, or none if there is nothing.
func (w *writer) json(name string, value []byte) {
	if len(value) == 0 {
		return
	}
	w.name(name)
	if err := json.Compact(&w.out, value); err != nil && w.err == nil {
		w.err = err
	}
}

func (w *writer) name(name string) {
	if text := w.out.Bytes(); text[len(text)-1] != '{' {
		w.out.WriteByte(',')
	}
	w.quote(name)
	w.out.WriteByte(':')
}

// quote writes a text. Bytes that are no UTF-8 become replacement characters: no event is held up by them.
func (w *writer) quote(text string) {
	quoted, _ := jsontext.AppendQuote(w.out.AvailableBuffer(), text)
	w.out.Write(quoted)
}

// end closes all that is open.
func (w *writer) end() ([]byte, error) {
	for range w.depth {
		w.out.WriteByte('}')
	}
	return w.out.Bytes(), w.err
}
