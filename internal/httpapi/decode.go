package httpapi

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/problem"
)

const (
	// apiVersion is part of what a key stands for.
	apiVersion = "1"
	// metadataMaxDepth bounds how deep metadata nests.
	metadataMaxDepth = 16
	// idChars is the length of a UUID in its one accepted form.
	idChars = 36
)

// hash is the fingerprint of a request.
type hash = [sha256.Size]byte

// fingerprint is what a key stands for, besides the route: what the path names, by its id or its name, and
// the decoded body. The tenant is a part of the key.
type fingerprint struct {
	ID   uuid.UUID `json:"id,omitzero"`
	Name string    `json:"name,omitzero"`
	Body any       `json:"body"`
}

// decode reads the body of a request strictly into dst, which is a pointer to a type of the contract,
// and returns the fingerprint of the request. id is the id in the path, or uuid.Nil.
//
// The order of the answers is that of the table of problems: malformed, key, validation.
func decode(c *call, id uuid.UUID, dst any) (hash, error) {
	return decodeInto(c, fingerprint{ID: id, Body: dst})
}

// decodeNamed is decode where the path has a name for what is asked about.
func decodeNamed(c *call, name string, dst any) (hash, error) {
	return decodeInto(c, fingerprint{Name: name, Body: dst})
}

func decodeInto(c *call, f fingerprint) (hash, error) {
	var semantic error
	if len(c.body) > 0 || c.route.has(body) && !c.route.has(optional) {
		if err := jsonv2.Unmarshal(c.body, f.Body, c.strict); err != nil {
			if semantic = notValid(c.body, err); problem.Is(semantic, problem.MalformedRequest) {
				return hash{}, semantic
			}
		}
	}
	if err := c.late(); err != nil {
		return hash{}, err
	}
	if semantic != nil {
		return hash{}, semantic
	}
	if err := refuseNUL(c.body); err != nil {
		return hash{}, err
	}
	if !c.route.has(key) {
		return hash{}, nil
	}
	canonical, err := jsonv2.Marshal(f, writeOptions())
	if err != nil {
		return hash{}, fmt.Errorf("encode request: %w", err)
	}
	// Integers stay as they are: RFC 8785 would take two that differ beyond 2^53 for the same.
	if err := (*jsontext.Value)(&canonical).Canonicalize(jsontext.CanonicalizeRawInts(false)); err != nil {
		return hash{}, fmt.Errorf("canonicalize request: %w", err)
	}
	return idempotency.Hash(c.route.method, c.route.pattern, apiVersion, canonical), nil
}

// strictly are the options of decode. A listener makes them once: they remember what they learned of
// types.
func strictly() jsonv2.Options {
	return jsonv2.JoinOptions(jsonv2.RejectUnknownMembers(true),
		jsonv2.WithUnmarshalers(jsonv2.UnmarshalFromFunc(readID)))
}

func writeOptions() jsonv2.Options { return jsontext.AllowInvalidUTF8(true) }

// mistake is what is wrong with a value, in words for the client.
type mistake string

// Error says it.
func (m mistake) Error() string { return string(m) }

// readID takes a UUID in its usual form only; uuid.UUID alone would take four others.
func readID(d *jsontext.Decoder, id *uuid.UUID) error {
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	if token.Kind() == 'n' {
		return nil
	}
	text := token.String()
	if token.Kind() != '"' || len(text) != idChars {
		return mistake("has to be a UUID")
	}
	parsed, err := uuid.Parse(text)
	if err != nil {
		return mistake("has to be a UUID")
	}
	*id = parsed
	return nil
}

// notValid turns an error of the decoder into a problem. A body that is not JSON is malformed, even
// if something else was wrong in front of that.
func notValid(text []byte, err error) error {
	var syntactic *jsontext.SyntacticError
	if !errors.As(err, &syntactic) {
		var anything any
		errors.As(jsonv2.Unmarshal(text, &anything), &syntactic)
	}
	if syntactic != nil {
		return malformed(syntactic)
	}
	var semantic *jsonv2.SemanticError
	if !errors.As(err, &semantic) {
		return fmt.Errorf("decode body: %w", err)
	}
	var why mistake
	switch {
	case errors.As(err, &why):
	case errors.Is(err, jsonv2.ErrUnknownName):
		why = "is not known here"
	default:
		why = mistake("has to be " + wanted(semantic.GoType))
	}
	return problem.Invalid(string(semantic.JSONPointer), "%s", why)
}

func malformed(err *jsontext.SyntacticError) error {
	p := &problem.Error{Code: problem.MalformedRequest, Err: err}
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		p.Detail = "The body has a name twice in one object."
		p.Fields = []problem.Field{{Pointer: string(err.JSONPointer), Detail: "is there twice"}}
	default:
		p.Detail = fmt.Sprintf("The body is not JSON: byte %d cannot be read.", err.ByteOffset)
	}
	return p
}

// wanted says in words what a Go type takes from JSON.
func wanted(t reflect.Type) string {
	if t == nil {
		return "of another type"
	}
	if t == reflect.TypeFor[time.Time]() {
		return "a time like 2026-11-22T12:00:00Z"
	}
	switch t.Kind() { //nolint:exhaustive // the kinds that the contract's types have
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "an integer without fraction and exponent"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Pointer:
		return wanted(t.Elem())
	}
	return "of another type"
}

// refuseNUL finds strings with a NUL, which no text column can hold.
func refuseNUL(text []byte) error {
	if !bytes.Contains(text, []byte(`\u0000`)) {
		return nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(text))
	for {
		token, err := d.ReadToken()
		if err != nil {
			return nil //nolint:nilerr // the end: the body was decoded before
		}
		if token.Kind() == '"' && strings.ContainsRune(token.String(), 0) {
			return problem.Invalid(string(d.StackPointer()), "has a NUL character")
		}
	}
}

// checkMetadata accepts a JSON object of bounded depth, or null.
func checkMetadata(pointer string, text []byte) []problem.Field {
	if len(text) == 0 || string(text) == "null" {
		return nil
	}
	if text[0] != '{' {
		return []problem.Field{{Pointer: pointer, Detail: "has to be an object"}}
	}
	if tooDeep(text) {
		return []problem.Field{{
			Pointer: pointer, Detail: fmt.Sprintf("nests deeper than %d levels", metadataMaxDepth),
		}}
	}
	return nil
}

// tooDeep counts brackets outside strings; the text is valid JSON.
func tooDeep(text []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case b == '\\':
			i++
		case b == '"':
			inString = !inString
		case inString:
		case b == '{' || b == '[':
			if depth++; depth > metadataMaxDepth {
				return true
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return false
}

// checkText accepts a text of at most so many bytes without control characters.
func checkText(pointer, text string, minBytes, maxBytes int) []problem.Field {
	var detail string
	switch {
	case len(text) < minBytes || len(text) > maxBytes:
		detail = fmt.Sprintf("has to have %d to %d bytes", minBytes, maxBytes)
	case !utf8.ValidString(text):
		detail = "is not valid UTF-8"
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		detail = "has a control character"
	default:
		return nil
	}
	return []problem.Field{{Pointer: pointer, Detail: detail}}
}

// checkReason finds what is wrong with the reason of an operator's act. One of blanks alone says nothing.
func checkReason(text string) []problem.Field {
	if strings.Trim(text, " ") == "" {
		return []problem.Field{{Pointer: "/reason", Detail: "has to say why"}}
	}
	return checkText("/reason", text, 1, reasonMaxBytes)
}
