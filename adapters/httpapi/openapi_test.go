package httpapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"go.yaml.in/yaml/v4"

	"writ/adapters/httpapi"
)

// servedDocument gives the OpenAPI document as it is served.
func servedDocument(t *testing.T, api *httpapi.API) []byte {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1/openapi.json", nil)
	w := httptest.NewRecorder()
	api.Handler().ServeHTTP(w, r)
	if w.Code != 200 {
		t.Fatalf("GET /openapi.json: %d %s", w.Code, w.Body)
	}
	return w.Body.Bytes()
}

// document gives the served document as a value, read from its bytes and so
// free of whatever the program knows beside them.
func document(t *testing.T, api *httpapi.API) *huma.OpenAPI {
	t.Helper()
	var doc struct {
		Paths      map[string]*huma.PathItem `yaml:"paths"`
		Components struct {
			Schemas map[string]*huma.Schema `yaml:"schemas"`
		} `yaml:"components"`
	}
	// The library's types have names for YAML alone, and JSON is YAML.
	if err := yaml.Load(servedDocument(t, api), &doc); err != nil {
		t.Fatalf("read the OpenAPI document: %v", err)
	}
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	for name, s := range doc.Components.Schemas {
		precompute(s)
		registry.Map()[name] = s
	}
	return &huma.OpenAPI{Paths: doc.Paths, Components: &huma.Components{Schemas: registry}}
}

// precompute readies a schema that was read from JSON for validation.
func precompute(s *huma.Schema) {
	if s == nil {
		return
	}
	for _, p := range s.Properties {
		precompute(p)
	}
	precompute(s.Items)
	if extra, ok := s.AdditionalProperties.(map[string]any); ok {
		text, _ := yaml.Dump(extra)
		sub := new(huma.Schema)
		_ = yaml.Load(text, sub)
		precompute(sub)
		s.AdditionalProperties = sub
	}
	s.PrecomputeMessages()
}

// conformance tells in which way an answer is not one that the document
// announces.
func conformance(doc *huma.OpenAPI, method, path string, status int, contentType string, body []byte) []string {
	o := operation(doc, method, path)
	if o == nil {
		return nil // paths and methods that don't exist, and the document itself
	}
	resp := o.Responses[statusKey(status)]
	if resp == nil {
		return []string{"the status is not announced"}
	}
	kind, _, text := strings.Cut(contentType, ";") // JSON comes without parameters
	media := resp.Content[kind]
	if media == nil || text && !strings.HasPrefix(kind, "text/") {
		return []string{fmt.Sprintf("the content type %q is not announced", contentType)}
	}
	switch {
	case method == "HEAD" || kind == "text/plain" || kind == "application/x-ndjson":
		return nil
	case kind == "text/event-stream":
		var problems []string
		for _, e := range parseEvents(body) {
			if e.data != "" && e.name == "" {
				problems = append(problems, conformingBody(doc, media, []byte(e.data))...)
			}
		}
		return problems
	}
	return conformingBody(doc, media, body)
}

func conformingBody(doc *huma.OpenAPI, media *huma.MediaType, body []byte) []string {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return []string{err.Error()}
	}
	res := &huma.ValidateResult{}
	huma.Validate(doc.Components.Schemas, media.Schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, v, res)
	var problems []string
	for _, e := range res.Errors {
		problems = append(problems, e.Error())
	}
	return problems
}

func operation(doc *huma.OpenAPI, method, path string) *huma.Operation {
	for template, item := range doc.Paths {
		if !matches(template, path) {
			continue
		}
		switch method {
		case "GET", "HEAD":
			return item.Get
		case "POST":
			return item.Post
		}
	}
	return nil
}

func matches(template, path string) bool {
	t, p := strings.Split(template, "/"), strings.Split(path, "/")
	if len(t) != len(p) {
		return false
	}
	for i := range t {
		if t[i] != p[i] && !strings.HasPrefix(t[i], "{") {
			return false
		}
	}
	return true
}

func TestOpenAPIDocumentIsAsPublished(t *testing.T) {
	var got bytes.Buffer
	if err := json.Indent(&got, servedDocument(t, newSite(t).api), "", "  "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	golden := filepath.Join("testdata", "openapi.json")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the OpenAPI document changed; run with -update and look at the difference. got:\n%s", got.Bytes())
	}
	for _, word := range []string{"ErrorModel", "$schema", `"openapi": "3.1`} {
		if has := bytes.Contains(got.Bytes(), []byte(word)); has != (word == `"openapi": "3.1`) {
			t.Errorf("document contains %s: %t", word, has)
		}
	}
}

// A conformance check that accepts everything would make every other test of
// this package weaker without anybody noticing.
func TestConformanceCheckCanFail(t *testing.T) {
	doc := newSite(t).doc
	good := `{"outcome":"in-flight","op_id":"0a","nonce_short":"6f1c9a0e…","attempt":1,"state":"started","detail":"d","since":"2026-11-23T09:00:00Z"}`
	for name, c := range map[string]struct {
		status int
		kind   string
		body   string
		fits   bool
	}{
		"as announced":            {202, "application/json", good, true},
		"status not announced":    {418, "application/json", good, false},
		"content type":            {202, "text/plain", good, false},
		"a member missing":        {202, "application/json", `{"outcome":"in-flight"}`, false},
		"a member too many":       {202, "application/json", strings.Replace(good, "{", `{"x":1,`, 1), false},
		"a value not announced":   {202, "application/json", strings.Replace(good, "in-flight", "maybe", 1), false},
		"a problem as a success":  {202, "application/problem+json", good, false},
		"a success as a problem":  {503, "application/problem+json", good, false},
		"no JSON":                 {202, "application/json", "ok", false},
		"a number for the detail": {202, "application/json", strings.Replace(good, `"d"`, "1", 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			problems := conformance(doc, "POST", "/v1/ops", c.status, c.kind, []byte(c.body))
			if (len(problems) == 0) != c.fits {
				t.Errorf("problems %q, want none: %t", problems, c.fits)
			}
		})
	}
}
