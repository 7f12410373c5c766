package mode

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the default policy
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"go.yaml.in/yaml/v3"
)

// DefaultText is the policy of a process that is given no other.
//
//go:embed policy.yaml
var DefaultText []byte

// policyMaxBytes bounds a policy file.
const policyMaxBytes = 64 << 10

// Policy is what each mode does and what switches it. It is valid and never changes.
type Policy struct {
	// Control is who decides as long as no operator says otherwise: Auto or Advise.
	Control Control `json:"control" yaml:"control"`
	// SampleEvery is how often is measured, Dwell the least time in a mode.
	SampleEvery time.Duration `json:"sample_every" yaml:"sample_every"`
	EnterAfter  int           `json:"enter_after"  yaml:"enter_after"`
	LeaveAfter  int           `json:"leave_after"  yaml:"leave_after"`
	Dwell       time.Duration `json:"dwell"        yaml:"dwell"`
	// Levels are the thresholds of each level but Normal.
	Levels map[Mode]map[Signal]Threshold `json:"levels" yaml:"levels"`
	// Requests and Flows say what each mode but Normal does.
	Requests   map[Work]map[Mode]Pass   `json:"requests"    yaml:"requests"`
	Flows      map[Flow]map[Mode]Action `json:"flows"       yaml:"flows"`
	CatchUp    CatchUp                  `json:"catch_up"    yaml:"catch_up"`
	RetryAfter map[Mode]time.Duration   `json:"retry_after" yaml:"retry_after"`

	hash string
}

// Threshold is from where a signal votes for a level, and below which it lets it go.
type Threshold struct {
	Enter float64 `json:"enter" yaml:"enter"`
	Leave float64 `json:"leave" yaml:"leave"`
}

// Action is what a mode does with a flow. The set is closed.
type Action string

// The actions.
const (
	Run   Action = "run"
	Defer Action = "defer"
)

// CatchUp is how what was deferred comes back: from a share of its places to all of them.
type CatchUp struct {
	From   float64       `json:"from"   yaml:"from"`
	Within time.Duration `json:"within" yaml:"within"`
}

// Load reads the policy of a file, or the default where there is no path.
func Load(path string) (*Policy, error) {
	if path == "" {
		return Parse(DefaultText)
	}
	file, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	if file.Size() > policyMaxBytes {
		return nil, fmt.Errorf("read policy %s: it is larger than %d bytes", path, policyMaxBytes)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	p, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", path, err)
	}
	return p, nil
}

// Parse reads a policy. The error has everything that is wrong with it.
func Parse(text []byte) (*Policy, error) {
	p := &Policy{}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	err := decoder.Decode(p)
	if unreadable, ok := errors.AsType[*yaml.TypeError](err); err != nil && !ok {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	} else if ok { // what could be read is looked at all the same
		return nil, errors.Join(unreadable, p.validate())
	}
	if err := p.validate(); err != nil {
		return nil, err
	}
	canonical, err := json.Marshal(p) // members and keys of maps in a fixed order
	if err != nil {
		return nil, fmt.Errorf("hash policy: %w", err)
	}
	sum := sha256.Sum256(canonical)
	p.hash = hex.EncodeToString(sum[:])
	return p, nil
}

// Hash is the SHA-256 of what the policy says, in hexadecimal: comments and order do not change it.
func (p *Policy) Hash() string { return p.hash }

// passes says which traffic of a work a mode lets pass.
func (p *Policy) passes(m Mode, w Work) Pass {
	if pass, ok := p.Requests[w][m]; ok {
		return pass
	}
	return All
}

// deferred says whether a mode defers a flow.
func (p *Policy) deferred(m Mode, f Flow) bool { return p.Flows[f][m] == Defer }

// catchUpSteps is in how many steps a flow comes back.
const catchUpSteps = 4

// Share is the part of its places that a flow has: none while it is deferred, more and more of them after
// that, all at last.
func (p *Policy) Share(f Flow, s State, now time.Time) float64 {
	if p.deferred(s.Mode, f) {
		return 0
	}
	since := now.Sub(s.Since)
	if !p.deferred(s.Before, f) || since >= p.CatchUp.Within {
		return 1
	}
	step := int(catchUpSteps * since / p.CatchUp.Within)
	return p.CatchUp.From + (1-p.CatchUp.From)*float64(step)/catchUpSteps
}
