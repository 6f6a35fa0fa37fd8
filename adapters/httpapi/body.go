package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// takeBody reads the body whole, within bounds of size and time, before
// anything else looks at it.
func (a *API) takeBody(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	body, p := readBody(w, r)
	if p != nil {
		// What is left of the body is not read: the connection ends.
		w.Header().Set("Connection", "close")
		send(w, p, a.cfg.Log)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	next(ctx)
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *Problem) {
	tooLarge := problem(http.StatusRequestEntityTooLarge, reasonTooLarge, fmt.Sprintf("the body may have at most %d bytes", MaxBodyBytes))
	kind, params, err := mime.ParseMediaType(r.Header.Get(contentTypeHeader))
	charset, given := params["charset"]
	if err != nil || kind != "application/json" || given && !strings.EqualFold(charset, "utf-8") {
		return nil, problem(http.StatusUnsupportedMediaType, reasonMediaType, "the body must be JSON, with the header Content-Type: application/json")
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" {
		return nil, problem(http.StatusUnsupportedMediaType, reasonMediaType, "the body must not be compressed")
	}
	if r.ContentLength > MaxBodyBytes {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	var large *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.As(err, &large):
		return nil, tooLarge
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil, problem(http.StatusRequestTimeout, reasonSlow, "the body did not arrive in time")
	case err != nil:
		return nil, problem(http.StatusBadRequest, reasonBadRequest, "the body could not be read to its end")
	}
	return body, nil
}
