package proxmox

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A reply is an answer with status 200, taken apart.
type reply struct {
	data  jsontext.Value
	total int // rows in all, of lists that are given page by page; 0 if not said
}

// parseReply refuses whatever is not the API's JSON: a page, nothing, or an
// object without data. The library takes all of these for success.
func parseReply(body []byte) (reply, error) {
	if len(body) == 0 {
		return reply{}, errors.New("the answer is empty")
	}
	var shape struct {
		Data  jsontext.Value `json:"data"`
		Total number         `json:"total"`
	}
	if err := unmarshal(body, &shape); err != nil {
		return reply{}, fmt.Errorf("the answer %q is not JSON of Proxmox VE: %w", clip(string(body)), err)
	}
	if shape.Data == nil {
		return reply{}, fmt.Errorf("the answer %q has no data, it is not from Proxmox VE", clip(string(body)))
	}
	return reply{data: shape.Data, total: int(shape.Total)}, nil
}

// decode reads the data. Null is never what was asked for.
func (r reply) decode(v any) error {
	if r.data.Kind() == jsontext.KindNull {
		return errors.New("the answer's data is null")
	}
	if err := unmarshal(r.data, v); err != nil {
		return fmt.Errorf("the answer's data can't be read: %w", err)
	}
	return nil
}

// unmarshal reads what the host sent: names in their exact case and only once.
// Members that this program does not know are ignored, every version adds some.
func unmarshal(data []byte, v any) error {
	return json.Unmarshal(data, v, jsontext.AllowInvalidUTF8(true))
}

// A number is an integer, which Proxmox VE sends as a number or as a string,
// depending on which part of it the value went through.
type number int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(raw []byte) error {
	s, err := scalar(raw)
	if err != nil {
		return err
	}
	i, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return fmt.Errorf("%s is not an integer", clip(string(raw)))
	}
	*n = number(i)
	return nil
}

// A flag is a boolean, which Proxmox VE sends as 1 or 0, bare or as a string.
type flag bool

// UnmarshalJSON implements json.Unmarshaler.
func (f *flag) UnmarshalJSON(raw []byte) error {
	s, err := scalar(raw)
	if err != nil {
		return err
	}
	switch s {
	case "1", "true":
		*f = true
	case "0", "false":
		*f = false
	default:
		return fmt.Errorf("%s is neither 1 nor 0", clip(string(raw)))
	}
	return nil
}

// scalar gives the text of a string, number or boolean.
func scalar(raw jsontext.Value) (string, error) {
	if raw.Kind() == jsontext.KindString {
		var s string
		err := unmarshal(raw, &s)
		return s, err
	}
	if k := raw.Kind(); k == jsontext.KindNumber || k == jsontext.KindTrue || k == jsontext.KindFalse {
		return string(raw), nil
	}
	return "", fmt.Errorf("%s is not a single value", clip(string(raw)))
}
