// Package money is amounts: whole minor units with an ISO 4217 currency.
//
// It knows no float, does no conversion and refuses sums that overflow. Invariant: an Amount that
// passed Validate is positive, at most MaxValue, and in an active currency with a known exponent.
package money

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxValue is the largest value of one amount in minor units. About nine thousand of them still
// fit into an int64.
const MaxValue int64 = 1_000_000_000_000_000

// Amount is a number of minor units of a currency: {125, "EUR"} is one euro and 25 cents.
type Amount struct {
	Value    int64
	Currency string
}

// Validate refuses an amount that is not positive, too large, or in an unknown currency.
func (a Amount) Validate() error {
	if _, ok := Exponent(a.Currency); !ok {
		return fmt.Errorf("currency %q is not an active ISO 4217 code", a.Currency)
	}
	if a.Value <= 0 {
		return fmt.Errorf("amount %d is not positive", a.Value)
	}
	if a.Value > MaxValue {
		return fmt.Errorf("amount %d is above the largest value %d", a.Value, MaxValue)
	}
	return nil
}

// Format writes the amount for people, "1.25 EUR". An unknown currency has no decimal point to
// set, so its minor units are named as such.
func (a Amount) Format() string {
	exponent, ok := Exponent(a.Currency)
	if !ok {
		return fmt.Sprintf("%d minor units of %q", a.Value, a.Currency)
	}
	digits, sign := strconv.FormatInt(a.Value, 10), ""
	if a.Value < 0 {
		digits, sign = digits[1:], "-"
	}
	if exponent == 0 {
		return sign + digits + " " + a.Currency
	}
	if missing := exponent + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	point := len(digits) - exponent
	return sign + digits[:point] + "." + digits[point:] + " " + a.Currency
}

// CheckedAdd returns a+b, or false if the sum does not fit.
func CheckedAdd(a, b int64) (int64, bool) {
	sum := a + b
	// The sum overflowed exactly if it lies on the wrong side of a.
	return sum, (sum >= a) == (b >= 0)
}
