package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"example.com/holdfast/loadtest/scenario"
)

const (
	// buildMax bounds the build of a changed program.
	buildMax = 10 * time.Minute
	// programPackage is what is built: this program, which is its own child.
	programPackage = "./loadtest/cmd/drill"
)

// program is the command of a child, and what removes it. With changes it is this program built anew, from
// the source as it is but for them: nothing of a promise that can be switched off is in the program itself.
func (r *run) program(ctx context.Context, b *scenario.Broken) ([]string, func(), error) {
	keep := func() {}
	if b == nil || len(b.Changes) == 0 {
		return r.o.Command, keep, nil
	}
	folder, err := os.MkdirTemp("", "holdfast-broken-")
	if err != nil {
		return nil, keep, err
	}
	remove := func() { _ = os.RemoveAll(folder) } // a folder of ours
	program, err := build(ctx, r.o.Root, folder, b.Changes)
	if err != nil {
		remove()
		return nil, keep, err
	}
	r.say("  built without its promise: %s", b.About)
	return append([]string{program}, r.o.Command[1:]...), remove, nil
}

// build builds the program with changes, by an overlay: the source itself stays as it is.
func build(ctx context.Context, root, folder string, changes []scenario.Change) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for n, c := range changes {
		path := filepath.Join(root, c.File)
		from := path
		if before, again := replace[path]; again {
			from = before
		}
		text, err := changed(from, c)
		if err != nil {
			return "", err
		}
		replace[path] = filepath.Join(folder, strconv.Itoa(n)+".go")
		if err := os.WriteFile(replace[path], text, policyPerm); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(file, overlay, policyPerm); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, buildMax)
	defer cancel()
	program := filepath.Join(folder, "drill")
	//nolint:gosec // the toolchain that built this program, on its own source
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-overlay="+file, "-o", program,
		programPackage)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build without a promise: %w: %.2000s", err, out)
	}
	return program, nil
}

var errChange = errors.New("what it changes has to be in the file once")

// changed is a file with a change.
func changed(path string, c scenario.Change) ([]byte, error) {
	text, err := os.ReadFile(path) //nolint:gosec // a file of the source
	if err != nil {
		return nil, fmt.Errorf("change source: %w", err)
	}
	if n := bytes.Count(text, []byte(c.From)); n != 1 {
		return nil, fmt.Errorf("change %s: %q is in it %d times: %w", c.File, c.From, n, errChange)
	}
	return bytes.Replace(text, []byte(c.From), []byte(c.To), 1), nil
}
