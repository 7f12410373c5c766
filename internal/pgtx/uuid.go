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
	m.TryWrapScanPlanFuncs = append([]pgtype.TryWrapScanPlanFunc{wrapScan}, m.TryWrapScanPlanFuncs...)
}

type uuidValue uuid.UUID

// UUIDValue gives the bytes to pgx.
func (u uuidValue) UUIDValue() (pgtype.UUID, error) { return pgtype.UUID{Bytes: u, Valid: true}, nil }

// ScanUUID takes the bytes from pgx.
func (u *uuidValue) ScanUUID(v pgtype.UUID) error {
	if !v.Valid {
		return fmt.Errorf("scan NULL into %T", uuid.UUID{})
	}
	*u = v.Bytes
	return nil
}

type uuidArray []uuid.UUID

// Dimensions says that there is one.
func (a uuidArray) Dimensions() []pgtype.ArrayDimension {
	if a == nil {
		return nil
	}
	return []pgtype.ArrayDimension{{Length: int32(len(a)), LowerBound: 1}} //nolint:gosec // batches are bounded
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
	switch value.(type) {
	case uuid.UUID:
		wrap = func(v any) any { return uuidValue(v.(uuid.UUID)) } //nolint:forcetypeassert // planned for it
	case []uuid.UUID:
		wrap = func(v any) any { return uuidArray(v.([]uuid.UUID)) } //nolint:forcetypeassert // planned for it
	default:
		return nil, nil, false
	}
	return &encodePlan{wrap: wrap}, wrap(value), true
}

type scanPlan struct{ next pgtype.ScanPlan }

// SetNext takes the plan for the wrapped target.
func (p *scanPlan) SetNext(next pgtype.ScanPlan) { p.next = next }

// Scan scans into the wrapped target.
func (p *scanPlan) Scan(src []byte, dst any) error {
	return p.next.Scan(src, (*uuidValue)(dst.(*uuid.UUID))) //nolint:forcetypeassert // planned for it
}

func wrapScan(target any) (pgtype.WrappedScanPlanNextSetter, any, bool) {
	t, ok := target.(*uuid.UUID)
	if !ok {
		return nil, nil, false
	}
	return &scanPlan{}, (*uuidValue)(t), true
}
