package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

const bearer = "bearer"

func openAPIConfig(version string) huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:   "writ",
				Version: version,
				Description: "Signed one-shot orders for destructive operations on Proxmox VE, each exactly once. " +
					"A 2xx to a submission means that the op took effect or still may; sending the same writ again is always safe.",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					bearer: {Type: "http", Scheme: "bearer", Description: "A token that writ token create made, with some of the scopes submit, read, resolve, void and backup. A client certificate whose subject is known to the service does as well."},
				},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat(), "json": jsonFormat()},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{asProblem},
	}
}

// responses describes the answers of an operation: ok maps a status to what
// it means beside a body of the success type, bad those with a problem.
func (a *API) responses(body any, ok, bad map[int]string) map[string]*huma.Response {
	registry := a.huma.OpenAPI().Components.Schemas
	out := make(map[string]*huma.Response)
	for status, text := range ok {
		out[strconv.Itoa(status)] = &huma.Response{
			Description: text,
			Content: map[string]*huma.MediaType{
				"application/json": {Schema: registry.Schema(reflect.TypeOf(body), true, "")},
			},
		}
	}
	all := map[int]string{
		421: "There are no tokens, and the request is not addressed to a loopback address.",
		422: "The request is out of form.",
		500: "The service is at fault, or an op's stream is corrupt.",
		503: "The service is stopping, has too many requests under way, or can't reach its ledger or host.",
	}
	maps.Copy(all, bad)
	for status, text := range all {
		out[strconv.Itoa(status)] = &huma.Response{
			Description: text,
			Content: map[string]*huma.MediaType{
				problemType: {Schema: registry.Schema(reflect.TypeFor[Problem](), true, "")},
			},
		}
	}
	return out
}

// forCallers are the answers that every operation with a scope may give.
func forCallers(more map[int]string) map[int]string {
	all := map[int]string{
		401: "No token, or one that is not known.",
		403: "The caller lacks the scope.",
		429: "The caller asks too often, see Retry-After; nothing was done.",
	}
	maps.Copy(all, more)
	return all
}

// serveOpenAPI serves the document, made once: the library would make it at
// the first request, and two of them could meet there. Its own form of an
// error is taken out, which never leaves this package.
func (a *API) serveOpenAPI() error {
	doc := a.huma.OpenAPI()
	schemas := doc.Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	text, err := doc.MarshalJSON()
	if err != nil {
		return fmt.Errorf("httpapi: write the OpenAPI document: %w", err)
	}
	a.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(contentTypeHeader, "application/openapi+json")
		_, _ = w.Write(text) // if the caller has gone, nobody is left to tell
	})
	return nil
}
