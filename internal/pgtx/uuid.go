package pgtx

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// RegisterTypes teaches a connection to send and read uuid.UUID, and slices of it, as the sixteen bytes
// that they are. Without it pgx goes through text, one element at a time: two fifths of the CPU of a
// worker, measured.
func RegisterTypes(m *pgtype.Map) {
	m.TryWrapEncodePlanFuncs = append([]pgtype.TryWrapEncodePlanFunc{wrapEncode}, m.TryWrapEncodePlanFuncs...)
	m.RegisterType(&pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}})
}

type uuidValue uuid.UUID

// UUIDValue gives the bytes to pgx.
func (u uuidValue) UUIDValue() (pgtype.UUID, error) { return pgtype.UUID{Bytes: u, Valid: true}, nil }

type uuidArray []uuid.UUID

// Dimensions says that there is one.
func (a uuidArray) Dimensions() []pgtype.ArrayDimension {
	if a == nil {
		return nil
	}
	length := int32(len(a)) //nolint:gosec // batches are bounded
	return []pgtype.ArrayDimension{{Length: length, LowerBound: 1}}
}

// Index is one element.
func (a uuidArray) Index(i int) any { return uuidValue(a[i]) }

// IndexType is an element for planning.
func (a uuidArray) IndexType() any { return uuidValue{} }

type encodePlan struct {
	next pgtype.EncodePlan
	wrap func(any) any
}

// SetNext takes the plan for the wrapped value.
func (p *encodePlan) SetNext(next pgtype.EncodePlan) { p.next = next }

// Encode encodes the wrapped value.
func (p *encodePlan) Encode(value any, buf []byte) ([]byte, error) {
	return p.next.Encode(p.wrap(value), buf)
}

func wrapEncode(value any) (pgtype.WrappedEncodePlanNextSetter, any, bool) {
	var wrap func(any) any
	switch value.(type) { // the assertions below hold: a plan is made for one type
	case uuid.UUID:
		wrap = func(v any) any { return uuidValue(v.(uuid.UUID)) }
	case []uuid.UUID:
		wrap = func(v any) any { return uuidArray(v.([]uuid.UUID)) }
	default:
		return nil, nil, false
	}
	return &encodePlan{wrap: wrap}, wrap(value), true
}

// uuidCodec reads into a uuid.UUID. It has to be the codec that does so: pgx looks for sql.Scanner, which
// uuid.UUID is, right after it and before any wrapper.
type uuidCodec struct{ pgtype.UUIDCodec }

// PlanScan plans for our type and leaves the rest to pgx.
func (c uuidCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ours := target.(*uuid.UUID); ours && format == pgtype.BinaryFormatCode {
		return scanUUID{}
	}
	return c.UUIDCodec.PlanScan(m, oid, format, target)
}

type scanUUID struct{}

// Scan takes the bytes.
func (scanUUID) Scan(src []byte, dst any) error {
	id, ours := dst.(*uuid.UUID)
	if !ours || len(src) != len(uuid.UUID{}) {
		return fmt.Errorf("scan %d bytes into %T", len(src), dst) // NULL has none
	}
	copy(id[:], src)
	return nil
}
