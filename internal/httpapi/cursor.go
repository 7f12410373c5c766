package httpapi

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"

	"example.com/holdfast/internal/problem"
)

const (
	pageDefault = 50
	pageMax     = 200
)

// A cursor is a version, the kind of its list, and where to go on; opaque to clients, so that it may
// change.
const (
	cursorVersion  = 1
	ofTransfers    = 't'
	ofAccounts     = 'a'
	ofPostings     = 'p'
	ofOrders       = 'o'
	ofSKUs         = 's'
	ofSlots        = 'd'
	ofEvents       = 'e'
	ofHooks        = 'w'
	ofAttempts     = 'r'
	ofDeadHooks    = 'x'
	cursorHeadSize = 2
)

func cursor(kind byte, position []byte) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{cursorVersion, kind}, position...))
}

// cursorIn is the text of a cursor and the name of the parameter or header that it came in.
type cursorIn struct{ name, text string }

func (c cursorIn) position(kind byte, size int) ([]byte, error) {
	raw, err := base64.RawURLEncoding.DecodeString(c.text)
	if err != nil || len(raw) != cursorHeadSize+size || raw[0] != cursorVersion || raw[1] != kind {
		return nil, problem.Invalid(c.name, "is not a cursor of this list")
	}
	return raw[cursorHeadSize:], nil
}

// number reads a cursor that stands at a number, or answers what there is without one.
func (c cursorIn) number(kind byte, otherwise int64) (int64, error) {
	if c.text == "" {
		return otherwise, nil
	}
	raw, err := c.position(kind, 8)
	if err != nil {
		return 0, err
	}
	n := int64(binary.BigEndian.Uint64(raw)) //nolint:gosec // a negative one finds nothing
	return n, nil
}

// idPosition reads a cursor that stands at an id; without a cursor it is uuid.Nil.
func idPosition(kind byte, text string) (uuid.UUID, error) {
	if text == "" {
		return uuid.Nil, nil
	}
	raw, err := cursorIn{"cursor", text}.position(kind, len(uuid.UUID{}))
	if err != nil {
		return uuid.Nil, err
	}
	return uuid.UUID(raw), nil
}

func numberCursor(kind byte, n int64) string {
	raw := binary.BigEndian.AppendUint64(nil, uint64(n)) //nolint:gosec // no number of a list is negative
	return cursor(kind, raw)
}

// numberPosition reads a cursor that stands at a number, or answers what there is without one.
func numberPosition(kind byte, text string, otherwise int64) (int64, error) {
	return cursorIn{"cursor", text}.number(kind, otherwise)
}

func pageSize(limit *int32) (int, error) {
	switch {
	case limit == nil:
		return pageDefault, nil
	case *limit < 1 || *limit > pageMax:
		return 0, problem.Invalid("limit", "has to be 1 to %d", pageMax)
	}
	return int(*limit), nil
}

// after is the cursor behind a full page; a page that is not full is the last one. The next page may
// turn out to be empty.
func after[T any](found []T, limit int, kind byte, id func(T) uuid.UUID) string {
	if len(found) < limit {
		return ""
	}
	last := id(found[len(found)-1])
	return cursor(kind, last[:])
}

// behindNumber is after for a list whose cursor stands at a number.
func behindNumber[T any](found []T, limit int, kind byte, number func(T) int64) string {
	if len(found) < limit {
		return ""
	}
	return numberCursor(kind, number(found[len(found)-1]))
}

// link is the Link header of a page with a next one.
func (c *call) link(next string) string {
	if next == "" {
		return ""
	}
	values := c.url.Query()
	values.Set("cursor", next)
	return fmt.Sprintf("<%s?%s>; rel=\"next\"", c.url.EscapedPath(), values.Encode())
}
