package pvesim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// maxBody is the largest request body a pveproxy takes.
const maxBody = 512 * 1024

// jsonBody reports whether the request announces a JSON body, even an empty one.
func (c *call) jsonBody() bool {
	if c.req.Method != http.MethodPost && c.req.Method != http.MethodPut {
		return false
	}
	ctype, _, _ := strings.Cut(c.req.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(ctype) == "application/json"
}

// readBody puts the body's parameters into c.raw.
func (c *call) readBody() (Response, bool) {
	if c.req.Method != http.MethodPost && c.req.Method != http.MethodPut {
		return plain(501, "Unexpected content for method '"+c.req.Method+"'"), true
	}
	if len(c.req.Body) > maxBody {
		return plain(501, "for data too large"), true
	}
	full := c.req.Header.Get("Content-Type")
	ctype, _, _ := strings.Cut(full, ";")
	switch strings.TrimSpace(ctype) {
	case "", "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(c.req.Body))
		if err != nil {
			return plain(500, "unable to parse body"), true
		}
		for k, v := range form {
			c.raw[k] = formValue(v)
		}
		return Response{}, false
	case "application/json":
		return c.readJSON()
	default:
		return plain(506, "upload 'Content-Type '"+full+"' not implemented"), true
	}
}

func (c *call) readJSON() (Response, bool) {
	const where = " at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line "
	dec := json.NewDecoder(bytes.NewReader(c.req.Body))
	dec.UseNumber()
	var top any
	if err := dec.Decode(&top); err != nil {
		at := fmt.Sprintf("malformed JSON string, neither tag, array, object, number, string or atom, at character offset %d (before \"%s\")%s934.",
			len(c.req.Body), "(end of string)", where)
		return perlDeath(at), true
	}
	obj, ok := top.(map[string]any)
	if !ok {
		return perlDeath("Not a HASH reference" + where + "978."), true
	}
	for k, v := range obj {
		c.raw[k] = jsonValue(v)
	}
	return Response{}, false
}

func perlDeath(text string) Response {
	return Response{Status: 500, Reason: text, Body: []byte(text + "\n")}
}

func jsonValue(v any) value {
	switch v := v.(type) {
	case nil:
		return value{form: "null"}
	case bool:
		return value{text: itoa(flag(v))}
	case json.Number:
		return value{text: v.String()}
	case string:
		return value{text: v}
	case []any:
		list := make([]string, len(v))
		for i, e := range v {
			list[i] = fmt.Sprint(e)
		}
		return value{list: list, form: "ARRAY"}
	default:
		return value{form: "HASH"}
	}
}
