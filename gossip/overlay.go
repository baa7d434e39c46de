package gossip

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"qosctl/qos"
)

// maxRow bounds the JSON of a record: a job file may have a MiB, and stands in it as it was. A record that begins with maxNew or less has
// room for what its job's life adds.
const (
	maxRow = 4 << 20
	maxNew = maxRow - 1<<20
)

// ErrLarge says that a record is larger than what peers take.
var ErrLarge = errors.New("the job is too large")

// Fits says whether a job's first record is small enough for all that is to be added to it.
func Fits(rec qos.Record) error { return fits(rec, nil, maxNew) }

func fits(rec qos.Record, raw json.RawMessage, most int) error {
	b, err := encodeRecord(rec, raw)
	if err == nil && len(b) > most {
		err = fmt.Errorf("%w: it takes %d bytes in the table of jobs, at most %d are allowed", ErrLarge, len(b), most)
	}
	return err
}

// decodeRecord reads a record strictly: one JSON value and nothing after it, within bounds. raw is nil, or the record as it came, if it
// has fields that this version does not know.
func decodeRecord(b []byte) (rec qos.Record, raw json.RawMessage, err error) {
	if len(b) > maxRow {
		return rec, nil, malformed("a row of %d bytes, more than %d", len(b), maxRow)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&rec); err != nil || d.InputOffset() != int64(len(b)) {
		rec = qos.Record{}
		if err := json.Unmarshal(b, &rec); err != nil {
			return qos.Record{}, nil, malformed("a row that is no record: %v", err)
		}
		raw = bytes.Clone(b)
	}
	if err := checkRecord(rec); err != nil {
		return qos.Record{}, nil, err
	}
	return rec, raw, nil
}

// checkRecord refuses what no agent writes and what would do harm for ever, since the greater always wins.
func checkRecord(r qos.Record) error {
	st := r.Status
	switch {
	case !validID(r.Spec.ID):
		return malformed("a row whose job id is %.80q", r.Spec.ID)
	case len(st.Owner) > maxName || len(st.Steward.By) > maxName || !printable(st.Owner) || !printable(st.Steward.By):
		return malformed("a row with a node's name that is none")
	case st.Epoch > maxCounter || st.Seq > maxCounter || st.Steward.Duty > maxCounter:
		return malformed("a row with a counter above %d", uint64(maxCounter))
	case len(st.Phase) > 32 || !printable(string(st.Phase)):
		return malformed("a row with a phase that is none")
	case len(st.Runs) > 4*qos.MaxRuns:
		return malformed("a row with %d runs", len(st.Runs))
	}
	for _, run := range st.Runs {
		if n := len(run.Spent); n > maxIncarnations {
			return malformed("a run of %d incarnations", n)
		}
		for _, s := range run.Spent {
			if s.Own < 0 || s.Own > maxCPU || s.Base < 0 || s.Base > maxCPU {
				return malformed("a run with a CPU time of %d ns", max(s.Own, s.Base))
			}
		}
	}
	if st.Execution == nil {
		return nil
	}
	if n := len(st.Execution.Account.Entries); n > maxIncarnations {
		return malformed("a row with %d incarnations", n)
	}
	for _, e := range st.Execution.Account.Entries {
		for _, d := range []int64{int64(e.Own), int64(e.Base), int64(e.Zero), int64(e.Borrowed)} {
			if d < 0 || d > maxCPU {
				return malformed("a row with a CPU time of %d ns", d)
			}
		}
	}
	return nil
}

func validID(id string) bool { return id != "" && len(id) <= maxID && printable(id) }

// encodeRecord is the record's JSON, with the fields of raw that this version does not know.
func encodeRecord(rec qos.Record, raw json.RawMessage) ([]byte, error) {
	b, err := encodePlain(rec)
	if err != nil {
		return nil, fmt.Errorf("encode row of job %s: %w", rec.Spec.ID, err)
	}
	if raw == nil {
		return b, nil
	}
	var old, now any
	if err := decodeAny(raw, &old); err != nil {
		return nil, fmt.Errorf("encode row of job %s: %w", rec.Spec.ID, err)
	}
	if err := decodeAny(b, &now); err != nil {
		return nil, fmt.Errorf("encode row of job %s: %w", rec.Spec.ID, err)
	}
	b, err = encodePlain(overlay(reflect.TypeFor[qos.Record](), old, now))
	if err != nil {
		return nil, fmt.Errorf("encode row of job %s: %w", rec.Spec.ID, err)
	}
	return b, nil
}

// encodePlain is v's JSON with <, > and & as they are: for a browser, encoding/json makes six bytes of each.
func encodePlain(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// decodeAny reads JSON without turning its numbers into floats.
func decodeAny(b []byte, to *any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(to)
}

// overlay returns now with those fields of old that t does not have, at every depth.
func overlay(t reflect.Type, old, now any) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if opaque(t) {
		return now
	}
	switch t.Kind() {
	case reflect.Struct:
		return overlayStruct(t, old, now)
	case reflect.Map:
		was, ok1 := old.(map[string]any)
		is, ok2 := now.(map[string]any)
		if ok1 && ok2 {
			for k, v := range is {
				if o, ok := was[k]; ok {
					is[k] = overlay(t.Elem(), o, v)
				}
			}
		}
	case reflect.Slice:
		was, ok1 := old.([]any)
		is, ok2 := now.([]any)
		if ok1 && ok2 && len(was) == len(is) { // else elements have moved, and which is which cannot be known
			for i := range is {
				is[i] = overlay(t.Elem(), was[i], is[i])
			}
		}
	}
	return now
}

func overlayStruct(t reflect.Type, old, now any) any {
	was, ok1 := old.(map[string]any)
	is, ok2 := now.(map[string]any)
	if !ok1 || !ok2 {
		return now
	}
	known := map[string]reflect.Type{}
	for f := range fields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		known[strings.ToLower(name)] = f.Type // as encoding/json reads them
	}
	for k, v := range was {
		ft, ok := known[strings.ToLower(k)]
		if !ok {
			is[k] = v
		} else if n, ok := is[k]; ok {
			is[k] = overlay(ft, v, n)
		}
	}
	return is
}

func fields(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for f := range t.Fields() {
			if f.IsExported() && !yield(f) {
				return
			}
		}
	}
}

// opaque says whether a type has a JSON form of its own.
func opaque(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Marshaler]()) || p.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}
