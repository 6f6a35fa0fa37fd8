package op_test

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"writ/domain/op"
)

// emptyEvents gives one of each type, with nothing in it.
func emptyEvents() []op.Event {
	return []op.Event{new(op.Started), new(op.Launching), new(op.TaskRunning), new(op.Succeeded), new(op.Failed), new(op.Voided)}
}

// fill gives every field in v, however deep, a value that is not the zero one,
// and no two of them the same if they can differ.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(1764000000+int64(*n), int64(*n)).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("%d <&> \" \\ \t\x01\u2028é€😀", *n))
	case reflect.Int, reflect.Int64:
		v.SetInt(-int64(*n))
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(uint64(*n % 251))
	case reflect.Bool:
		v.SetBool(true)
	default:
		t.Fatalf("no value for a %s: the test has to learn it", v.Type())
	}
}

// leaves calls do with every field in v that was filled, however deep: with
// each pointer and slice, too.
func leaves(v reflect.Value, path string, do func(path string, v reflect.Value)) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			break
		}
		for i := range v.NumField() {
			leaves(v.Field(i), path+"."+v.Type().Field(i).Name, do)
		}
		return
	case reflect.Pointer:
		leaves(v.Elem(), path, do)
	case reflect.Slice:
		for i := range v.Len() {
			leaves(v.Index(i), fmt.Sprintf("%s[%d]", path, i), do)
		}
	}
	do(path, v)
}

// The bytes of an event are those of its fields' tags, whichever fields have a
// value: with one that Encode does not know, something would be missing on
// record for ever.
func TestEncodeIsMarshal(t *testing.T) {
	same := func(e op.Event, what string) {
		t.Helper()
		got, err := op.Encode(e)
		want, wantErr := op.Marshal(e)
		if err != nil || wantErr != nil || !bytes.Equal(got, want) {
			t.Errorf("%s, %s: got\n%s (error %v)\nwant\n%s (error %v)", e.Type(), what, got, err, want, wantErr)
		}
	}
	for _, e := range emptyEvents() {
		same(e, "empty")
		n := 0
		v := reflect.ValueOf(e).Elem()
		fill(t, v, &n)
		same(e, "full")
		leaves(v, "", func(path string, field reflect.Value) {
			had := reflect.New(field.Type()).Elem()
			had.Set(field)
			field.SetZero()
			same(e, "without "+path)
			if field.Kind() == reflect.Slice {
				field.Set(reflect.MakeSlice(field.Type(), 0, 0))
				same(e, "with an empty "+path)
			}
			field.Set(had)
		})
	}
}

// What has no form on record is refused, by Encode as by Marshal.
func TestEncodeRefusesWhatMarshalDoes(t *testing.T) {
	tests := map[string]op.Event{
		"text that is not UTF-8":          change(running(1, 2), func(e *op.TaskRunning) { e.UPID = "\xff" }),
		"and is in a list":                change(succeeded(1, 3), func(e *op.Succeeded) { e.Residue = []string{"a", "\xff", "b"} }),
		"and stands in the header":        change(succeeded(1, 3), func(e *op.Succeeded) { e.Agent = "\xff" }),
		"and is in what few ops have":     change(launching(1, 1), func(e *op.Launching) { e.Observed.Pool = &op.PoolSeen{Members: []string{"\xff"}} }),
		"and is a parameter":              change(started(1, 0), func(e *op.Started) { e.Intent.Params.Snapshot = "\xff" }),
		"a year that has no four digits":  change(running(1, 2), func(e *op.TaskRunning) { e.At = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"a year before the first":         change(running(1, 2), func(e *op.TaskRunning) { e.At = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"an offset that is no whole hour": change(running(1, 2), func(e *op.TaskRunning) { e.At = e.At.In(time.FixedZone("", 25*3600)) }),
	}
	for name, e := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := op.Marshal(e); err == nil {
				t.Fatal("Marshal: got no error, want one")
			}
			if got, err := op.Encode(e); err == nil {
				t.Errorf("got %s, want an error", got)
			}
		})
	}
}
