package pvesim

import (
	"encoding/json"
	"strings"
)

// ok answers with data.
func (c *call) ok(data any) { c.reply(map[string]any{"data": data}) }

// okTotal answers with a list and its length before paging, which is left out
// when it is zero.
func (c *call) okTotal(data any, total int) {
	m := map[string]any{"data": data}
	if total > 0 {
		m["total"] = total
	}
	c.reply(m)
}

func (c *call) reply(m map[string]any) {
	if c.format == "extjs" {
		m["success"] = 1
	}
	c.answer(jsonResponse(200, "OK", m))
}

// fail answers 500 with the text of an exception.
func (c *call) fail(text string) { c.failStatus(500, text) }

func (c *call) failStatus(status int, text string) {
	c.failBody(status, text, map[string]any{"data": nil, "message": text + "\n"})
}

// failPlainMessage is for the errors whose message has no line end.
func (c *call) failPlainMessage(status int, text string) {
	c.failBody(status, text, map[string]any{"data": nil, "message": text})
}

func (c *call) forbid(text string) { c.failStatus(403, text) }

func (c *call) failParams(errs map[string]string) {
	const text = "Parameter verification failed."
	c.failBody(400, text, map[string]any{"data": nil, "message": text + "\n", "errors": errs})
}

func (c *call) failParam(name, text string) { c.failParams(map[string]string{name: text}) }

func (c *call) failBody(status int, text string, body map[string]any) {
	if c.format == "extjs" && status != 401 {
		body["success"] = 0
		body["status"] = status
		if status == 400 {
			body["status"] = "400"
		}
		c.answer(jsonResponse(200, "OK", body))
		return
	}
	reason, _, _ := strings.Cut(text, "\n")
	c.answer(jsonResponse(status, reason, body))
}

// refuse is a 401 of the authentication stage: late and without a body.
func (c *call) refuse(reason string) {
	c.s.after(c.s.authDelay, func() { c.answer(bare(401, reason)) })
}

// answer decides the reply, unless one was decided before.
func (c *call) answer(r Response) {
	if c.answered {
		return
	}
	r.Reason, _, _ = strings.Cut(r.Reason, "\n")
	if strings.Contains(r.Reason, "\r") {
		// The real server gives the whole answer up over this: a 400 without a
		// body, which proves nothing about parameters.
		r = bare(400, "Bad Request")
	}
	c.s.alter(c, r, func(r Response) {
		if c.answered {
			return
		}
		c.answered = true
		if c.record >= 0 {
			c.s.requests[c.record].Status = r.Status
			c.s.requests[c.record].Ended = c.s.now()
		}
		deliver := c.deliver
		c.s.outbox = append(c.s.outbox, func() { deliver(r) })
	})
}

func jsonResponse(status int, reason string, body any) Response {
	b, err := json.Marshal(body)
	if err != nil {
		panic("pvesim: internal error: " + err.Error())
	}
	return Response{Status: status, Reason: reason, ContentType: "application/json;charset=UTF-8", Body: b}
}

func bare(status int, reason string) Response {
	return Response{Status: status, Reason: reason, NoLength: true}
}

func plain(status int, text string) Response {
	return Response{Status: status, Reason: text, Body: []byte(text)}
}
