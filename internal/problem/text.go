package problem

import (
	"strings"
	"unicode/utf8"
)

// InvalidText says what is wrong with a text of a client that goes into a row, or "". The words fit the
// Detail of a Field.
func InvalidText(s string, maxBytes int) string {
	if len(s) > maxBytes {
		return "is too long"
	}
	if !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return "has a control character"
		}
	}
	return ""
}

// CheckNote refuses a text that says who or why, and has to say something, at a pointer. It fits a row.
func CheckNote(pointer, s string, maxBytes int) error {
	if strings.Trim(s, " ") == "" {
		return Invalid(pointer, "has to be there")
	}
	if why := InvalidText(s, maxBytes); why != "" {
		return Invalid(pointer, "%s", why)
	}
	return nil
}
