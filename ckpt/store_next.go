package ckpt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// next takes the job's next sequence, above all that are known here and above after, the highest that is known elsewhere. It is on disk
// before it is used, so that no sequence is ever given twice.
func (s *store) next(job string, after int) (Ref, error) {
	r := Ref{Job: job, Sequence: 1}
	if err := r.check(); err != nil {
		return r, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, last, err := s.last(job)
	if err != nil {
		return r, err
	}
	defer d.Close()
	r.Sequence = max(last, after) + 1
	if err = r.check(); err != nil {
		return r, err
	}
	return r, s.setLast(d, r.Sequence)
}

// known notes that a sequence was given by another node.
func (s *store) known(r Ref) error {
	if err := r.check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, last, err := s.last(r.Job)
	if err != nil {
		return err
	}
	defer d.Close()
	if last >= r.Sequence {
		return nil
	}
	return s.setLast(d, r.Sequence)
}

// last opens a job's directory, and says which is the highest sequence that was given; s.mu is held.
func (s *store) last(job string) (*os.Root, int, error) {
	if err := s.mkdir(job); err != nil {
		return nil, 0, err
	}
	d, err := s.root.OpenRoot(job)
	if err != nil {
		return nil, 0, fmt.Errorf("open the job's checkpoints: %w", err)
	}
	b, err := readSmall(d, counter, 32)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, errors.Join(err, d.Close())
	}
	last, _ := strconv.Atoi(strings.TrimSpace(string(b))) // a spoilt counter: the directories say it too
	entries, err := s.entries(job)
	if err != nil {
		return nil, 0, errors.Join(err, d.Close())
	}
	for _, e := range entries {
		last = max(last, e.ref.Sequence)
	}
	return d, last, nil
}

func (s *store) setLast(d *os.Root, sequence int) error {
	if err := writeWhole(d, counter, []byte(strconv.Itoa(sequence)+"\n")); err != nil {
		return err
	}
	return syncPath(s.root, ".")
}
