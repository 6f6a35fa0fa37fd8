package signedop_test

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"writ/domain/signedop"
)

// fill gives every field in v, however deep, a value that is not the zero one.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(1764000000+int64(*n), 0).UTC()))
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
	case reflect.String:
		v.SetString(fmt.Sprintf("%d <&> \" \\ \t\x01\u2028é€😀", *n))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Bool:
		v.SetBool(*n%2 == 0)
	default:
		t.Fatalf("no value for a %s: the test has to learn it", v.Type())
	}
}

// The quick way to write a document for comparing knows every member: each alone
// and all together, empty or not. Without one of them documents that have it
// would be read slowly, and nobody would notice.
func TestDocumentsAreComparedAsTheyAreSigned(t *testing.T) {
	same := func(d signedop.Document, what string) {
		t.Helper()
		quick, slow, err := signedop.CanonicalBothWays(d)
		if err != nil || !bytes.Equal(quick, slow) {
			t.Errorf("%s: got\n%s (error %v)\nwant\n%s", what, quick, err, slow)
		}
	}
	for _, empty := range []bool{true, false} {
		var d signedop.Document
		n := 0
		fill(t, reflect.ValueOf(&d).Elem(), &n)
		if empty {
			d = signedop.Document{NotBefore: d.NotBefore, ExpiresAt: d.ExpiresAt}
		}
		same(d, fmt.Sprintf("empty %t", empty))
		for _, of := range []any{&d, &d.Target, &d.Params, &d.Expect} {
			v := reflect.ValueOf(of).Elem()
			for i := range v.NumField() {
				field := v.Field(i)
				what := fmt.Sprintf("empty %t, the other way %s.%s", empty, v.Type(), v.Type().Field(i).Name)
				had := reflect.New(field.Type()).Elem()
				had.Set(field)
				switch {
				case field.Type() == reflect.TypeFor[time.Time]():
					continue // there is always one
				case empty:
					fill(t, field, &n)
				default:
					field.SetZero()
				}
				same(d, what)
				if field.Kind() == reflect.Slice {
					field.Set(reflect.MakeSlice(field.Type(), 0, 0))
					same(d, what+", not nil")
				}
				field.Set(had)
			}
		}
	}
}

// BenchmarkParse reads a writ.
func BenchmarkParse(b *testing.B) {
	raw, err := signedop.Seal(order(), rawSigner(b, "alice"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := signedop.Parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}
