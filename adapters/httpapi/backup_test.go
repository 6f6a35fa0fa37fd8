package httpapi_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"writ/adapters/httpapi"
)

func TestBackup(t *testing.T) {
	made := httpapi.BackupMade{Path: "/backups/b1", Ledger: string(ledger), Position: 17, At: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	for name, c := range map[string]struct {
		body   string
		scope  httpapi.Scope
		err    error
		status int
		asked  string
	}{
		"named":                {`{"name":"b1"}`, httpapi.Backup, nil, 200, "b1"},
		"not named":            {`{}`, httpapi.Backup, nil, 200, ""},
		"by a reader":          {`{"name":"b1"}`, httpapi.Read, nil, 403, "-"},
		"out of the folder":    {`{"name":"../b1"}`, httpapi.Backup, nil, 422, "-"},
		"a path":               {`{"name":"/etc"}`, httpapi.Backup, nil, 422, "-"},
		"that can't be made":   {`{"name":"b1"}`, httpapi.Backup, errors.New("no space left on device"), 503, "b1"},
		"something it is not":  {`{"folder":"b1"}`, httpapi.Backup, nil, 422, "-"},
		"a hidden folder name": {`{"name":".b1"}`, httpapi.Backup, nil, 422, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := "-"
			s := newSite(t, withToken(c.scope), func(cfg *httpapi.Config) {
				cfg.Backup = func(_ context.Context, name string) (httpapi.BackupMade, error) {
					asked = name
					return made, c.err
				}
			})
			w := s.do(call{
				method: "POST", path: "/v1/store/backup", body: c.body, header: map[string]string{"Authorization": "Bearer " + token},
			})
			wantStatus(t, w, c.status)
			if asked != c.asked {
				t.Errorf("asked for: got %q, want %q", asked, c.asked)
			}
			if c.status == 200 {
				if got := decode[httpapi.BackupMade](t, w); got != made {
					t.Errorf("got %+v, want %+v", got, made)
				}
			}
		})
	}
}
