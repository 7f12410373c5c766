package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// The files of a report in its folder.
const (
	MarkdownFile = "report.md"
	JSONFile     = "report.json"
	folderMode   = 0o755
	fileMode     = 0o644
)

// Save writes the report with its pictures into a folder, over the one that was there.
func (r *Report) Save(dir string) error {
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	err := errors.Join(
		write(filepath.Join(dir, MarkdownFile), r.Markdown),
		write(filepath.Join(dir, JSONFile), r.json),
	)
	for name, picture := range r.Plots() {
		err = errors.Join(err, write(filepath.Join(dir, name), func(w io.Writer) error {
			_, err := io.WriteString(w, picture)
			return err
		}))
	}
	return err
}

func (r *Report) json(w io.Writer) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

func write(path string, content func(io.Writer) error) error {
	//nolint:gosec // the user names it
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fileMode)
	if err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	if err := errors.Join(content(f), f.Close()); err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	return nil
}

// Load reads a report that Save wrote: its file, or the folder that has it.
func Load(path string) (Report, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, JSONFile)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the user names it
	if err != nil {
		return Report{}, fmt.Errorf("read report: %w", err)
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil || r.Mix == "" {
		return Report{}, fmt.Errorf("read report: %s is none: %w", path, err)
	}
	return r, nil
}
