package esdbserver

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// streamMeta is what the newest event of a metadata stream says. The zero value
// is that of a stream without any.
type streamMeta struct {
	maxAge         time.Duration // 0: for ever
	maxCount       uint64        // 0: all
	truncateBefore uint64        // the first revision to show
}

// deletedBefore is the $tb that hides whatever may come.
const deletedBefore = maxNumber

func (m streamMeta) deleted() bool { return m.truncateBefore == deletedBefore }

// parseMetadata reads metadata. If any key that has a meaning has a value of
// the wrong type, or it is no JSON object, it counts as empty: what a client
// wrote can't be refused any more when it is read.
func parseMetadata(data []byte) streamMeta {
	fields, err := splitObject(data)
	if err != nil {
		return streamMeta{}
	}
	var m streamMeta
	for _, f := range fields {
		ok := true
		switch f.name {
		case "$maxAge":
			var seconds uint64
			seconds, ok = wholeNumber(f.value, 1)
			m.maxAge = time.Duration(min(seconds, uint64(math.MaxInt64/time.Second))) * time.Second
		case "$maxCount":
			m.maxCount, ok = wholeNumber(f.value, 1)
		case "$tb":
			m.truncateBefore, ok = wholeNumber(f.value, 0)
		case "$cacheControl":
			_, ok = wholeNumber(f.value, 1)
		case "$acl":
			ok = validACL(f.value)
		case "$tmp":
			ok = f.value.Kind() == 't' || f.value.Kind() == 'f'
		}
		if !ok {
			return streamMeta{}
		}
	}
	return m
}

func wholeNumber(v jsontext.Value, least uint64) (uint64, bool) {
	if v.Kind() != '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(v), 10, 63)
	return n, err == nil && n >= least
}

// validACL takes the name of a default list, or an object that gives roles.
func validACL(v jsontext.Value) bool {
	if v.Kind() == '"' {
		s, err := jsontext.AppendUnquote(nil, v)
		return err == nil && (string(s) == "$userStreamAcl" || string(s) == "$systemStreamAcl")
	}
	fields, err := splitObject(v)
	if err != nil {
		return false
	}
	for _, f := range fields {
		if f.value.Kind() != '"' && f.value.Kind() != '[' {
			return false
		}
	}
	return true
}

type field struct {
	name  string
	value jsontext.Value
}

// splitObject gives the fields of a JSON object in their order. No name may
// come twice.
func splitObject(data []byte) ([]field, error) {
	d := jsontext.NewDecoder(bytes.NewReader(data))
	if kind := d.PeekKind(); kind != '{' {
		return nil, fmt.Errorf("want a JSON object, got %v", kind)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	var fields []field
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		f := field{name: name.String()}
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		f.value = value.Clone()
		fields = append(fields, f)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	if d.PeekKind() != 0 {
		return nil, fmt.Errorf("something follows the JSON object")
	}
	return fields, nil
}

// withTruncateBefore gives metadata with another $tb, everything else as it
// was. What is no JSON object is replaced.
func withTruncateBefore(data []byte, revision uint64) []byte {
	fields, err := splitObject(data)
	if err != nil {
		fields = nil
	}
	var out bytes.Buffer
	e := jsontext.NewEncoder(&out)
	write := func(name string, value jsontext.Value) {
		// Neither can fail: the names differ, the values were read as JSON.
		_ = e.WriteToken(jsontext.String(name))
		_ = e.WriteValue(value)
	}
	_ = e.WriteToken(jsontext.BeginObject)
	for _, f := range fields {
		if f.name != "$tb" {
			write(f.name, f.value)
		}
	}
	write("$tb", jsontext.Value(strconv.FormatUint(revision, 10)))
	_ = e.WriteToken(jsontext.EndObject)
	return bytes.TrimSpace(out.Bytes())
}
