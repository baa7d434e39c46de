// Package bundle writes a debug bundle: one tar.gz of parts that somebody else may see. Each part is bounded in size and time, its secrets are
// masked, and one that fails is noted while the rest is there.
package bundle

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Kind is how a part's text is masked.
type Kind int

// The kinds.
const (
	Text Kind = iota
	JSON
	YAML
)

// Part is one file of a bundle.
type Part struct {
	Name    string // with its ending, as explain/ID.json
	Kind    Kind
	Collect func(ctx context.Context) ([]byte, error) // what it returns beside an error is kept
}

// Options bound a bundle. The zero value of a bound is its default.
type Options struct {
	Masker   *Masker
	Root     string        // directory in the archive
	Now      time.Time     // of the files
	PartTime time.Duration // 15 s
	AllTime  time.Duration // 2 min
	MaxPart  int           // bytes; 8 MiB
	MaxAll   int           // bytes of all parts; 64 MiB
	Notes    []string      // for the manifest
}

// Noted is a part as the manifest has it.
type Noted struct {
	Name  string  `json:"name"`
	Bytes int     `json:"bytes"`
	Took  float64 `json:"took_seconds"`
	Cut   bool    `json:"cut,omitempty"` // it was longer
	Error string  `json:"error,omitempty"`
}

// Manifest is the file manifest.json of a bundle.
type Manifest struct {
	Made  time.Time `json:"made"`
	Parts []Noted   `json:"parts"`
	Notes []string  `json:"notes,omitempty"`
}

// Write collects the parts and writes them to a file of mode 0600, which is there whole or not at all; an existing file is replaced.
func Write(ctx context.Context, file string, parts []Part, o Options) (m Manifest, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".qosctl-bundle-*") // mode 0600
	if err != nil {
		return m, fmt.Errorf("write the bundle: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	m, err = write(ctx, tmp, parts, o)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return m, fmt.Errorf("write the bundle: %w", err)
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return m, fmt.Errorf("write the bundle: %w", err)
	}
	return m, nil
}

func write(ctx context.Context, w io.Writer, parts []Part, o Options) (Manifest, error) {
	o.PartTime, o.AllTime = cmp.Or(o.PartTime, 15*time.Second), cmp.Or(o.AllTime, 2*time.Minute)
	o.MaxPart, o.MaxAll = cmp.Or(o.MaxPart, 8<<20), cmp.Or(o.MaxAll, 64<<20)
	if o.Masker == nil {
		o.Masker = NewMasker()
	}
	within, stop := context.WithTimeout(ctx, o.AllTime)
	defer stop()
	packed := gzip.NewWriter(w)
	archive := tar.NewWriter(packed)
	add := func(name string, text []byte) error {
		h := &tar.Header{Name: path.Join(o.Root, name), Mode: 0o600, Size: int64(len(text)), ModTime: o.Now, Typeflag: tar.TypeReg}
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		_, err := archive.Write(text)
		return err
	}
	m := Manifest{Made: o.Now, Notes: o.Notes}
	left := o.MaxAll
	for _, p := range parts {
		text, n := o.collect(within, p, min(left, o.MaxPart))
		if ctx.Err() != nil {
			return m, context.Cause(ctx)
		}
		m.Parts = append(m.Parts, n)
		left -= len(text)
		if len(text) == 0 {
			continue
		}
		if err := add(p.Name, text); err != nil {
			return m, err
		}
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	return m, errors.Join(add("manifest.json", o.Masker.Text(text)), archive.Close(), packed.Close())
}

// collect has a part made, masked and cut.
func (o Options) collect(ctx context.Context, p Part, most int) ([]byte, Noted) {
	n := Noted{Name: p.Name}
	if most <= 0 {
		n.Error = "left out: the bundle is full"
		return nil, n
	}
	within, stop := context.WithTimeout(ctx, o.PartTime)
	defer stop()
	begin := time.Now()
	text, err := p.Collect(within)
	n.Took = time.Since(begin).Seconds()
	if err != nil {
		n.Error = string(o.Masker.Text([]byte(strings.ToValidUTF8(err.Error(), "?"))))
	}
	switch p.Kind { // before it is cut: half a secret is one too
	case JSON:
		text = o.Masker.JSON(text)
	case YAML:
		text = o.Masker.YAML(text)
	default:
		text = o.Masker.Text(text)
	}
	text = bytes.TrimSpace(text)
	if len(text) > 0 {
		text = append(text, '\n')
	}
	if len(text) > most {
		text, n.Cut = text[:most], true
	}
	n.Bytes = len(text)
	return text, n
}
