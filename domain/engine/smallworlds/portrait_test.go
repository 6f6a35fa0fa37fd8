package smallworlds_test

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"writ/domain/engine"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// portrait is a text that is the same for two jobs if and only if they will do
// the same from now on. It holds every field of the job and of its command, but
// those that are alike in all jobs of a cast, and what only says the same again:
// an op is told by the hash of its chain, a record by its id.
func portrait(p *played) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %d ", p.seed, p.draws)
	draw(&b, reflect.ValueOf(&p.job).Elem())
	draw(&b, reflect.ValueOf(&p.cmd).Elem())
	return b.String()
}

var (
	alikeInAll = map[reflect.Type]bool{
		reflect.TypeFor[time.Time](): true, reflect.TypeFor[engine.Submission](): true, reflect.TypeFor[engine.Pace](): true,
		reflect.TypeFor[gate.Decision](): true,
	}
	thereOrNot = map[reflect.Type]bool{
		reflect.TypeFor[*gate.Policy](): true, reflect.TypeFor[*gate.Authenticated](): true, reflect.TypeFor[*signedop.Unverified](): true,
	}
)

func draw(b *strings.Builder, v reflect.Value) {
	switch {
	case alikeInAll[v.Type()]:
		return
	case thereOrNot[v.Type()]:
		fmt.Fprintf(b, "%t ", v.IsNil())
		return
	case v.Type() == reflect.TypeFor[op.Op]():
		tail := v.FieldByName("Tail")
		draw(b, v.FieldByName("State"))
		draw(b, tail.FieldByName("Next"))
		draw(b, tail.FieldByName("Chain"))
		return
	case v.Type() == reflect.TypeFor[op.Record]():
		draw(b, v.FieldByName("ID"))
		draw(b, v.FieldByName("Data"))
		return
	}
	switch v.Kind() {
	case reflect.Func:
	case reflect.Bool:
		fmt.Fprintf(b, "%t ", v.Bool())
	case reflect.Int, reflect.Int64:
		fmt.Fprintf(b, "%d ", v.Int())
	case reflect.Uint8, reflect.Uint64:
		fmt.Fprintf(b, "%d ", v.Uint())
	case reflect.String:
		fmt.Fprintf(b, "%q ", v.String())
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			b.WriteString("nil ")
			return
		}
		b.WriteString(v.Elem().Type().Name())
		b.WriteByte(' ')
		draw(b, v.Elem())
	case reflect.Array, reflect.Slice:
		b.WriteByte('[')
		for i := range v.Len() {
			draw(b, v.Index(i))
		}
		b.WriteByte(']')
	case reflect.Struct:
		b.WriteByte('{')
		for i := range v.NumField() {
			draw(b, v.Field(i))
		}
		b.WriteByte('}')
	default:
		panic("smallworlds: " + v.Type().String() + " can't be drawn")
	}
}
