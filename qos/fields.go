package qos

import "slices"

// Verdict is what becomes of a field of a job file on its way to the framework.
type Verdict string

// The verdicts.
const (
	Kept       Verdict = "kept"       // the framework gets it as it is
	Translated Verdict = "translated" // qosctl acts on it, and the framework gets something else that does the same
	Refused    Verdict = "refused"    // a problem, if it asks for anything
	Ignored    Verdict = "ignored"    // a warning, if it asks for anything
)

// FieldType is what a field's value must be.
type FieldType string

// The types of fields.
const (
	AnyField     FieldType = "any"
	TextField    FieldType = "text"
	NumberField  FieldType = "number"
	IntegerField FieldType = "integer"
	BoolField    FieldType = "boolean"
	ObjectField  FieldType = "object"          // with fields of its own in the table
	ObjectsField FieldType = "list of objects" // with fields of their own in the table
	TextsField   FieldType = "list of texts"
	ListField    FieldType = "list"
	MapField     FieldType = "map" // of free keys
)

// Field is one field of a framework's job file, and what qosctl does with it.
type Field struct {
	Name    string    // path below the root, lists not shown: container.volumes.mode
	Type    FieldType // what the value must be; numbers and booleans may be strings
	Held    Verdict   // if the agent holds the job's container (the default)
	InPlace Verdict   // if the container is the framework's own: "elasticity": "inplace", or "iterations_by": "chronos"
	Reason  string    // why, or what is done with it
	Remedy  string    // what to do instead, if it is refused
	Least   float64   // of numbers
	Most    float64   // of numbers; 0: no bound
	Secret  bool      // the value is never quoted
}

// Fields returns the table of every field of a framework's job file, in the order of docs/jobs.md.
func Fields(framework Framework) []Field {
	switch framework {
	case Marathon:
		return slices.Concat(marathonFields(), marathonPlaceFields(), marathonContainerFields(), marathonReadOnlyFields())
	case Chronos:
		return slices.Concat(chronosFields(), chronosContainerFields())
	}
	return nil
}

// verdict returns what becomes of the field of a job that is held, or in place.
func (f Field) verdict(inPlace bool) Verdict {
	if inPlace {
		return f.InPlace
	}
	return f.Held
}

// maxCPUs bounds every number of CPUs: no node has more.
const maxCPUs = 4096

const (
	setInPlace = `remove it, or set "elasticity": "inplace" in the qos block`
	forPeople  = "for people only"
)
