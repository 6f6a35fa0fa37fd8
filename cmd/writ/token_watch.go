package main

import (
	"context"
	"io/fs"
	"time"
)

// tokensEvery is how soon a token that was made or revoked is known.
const tokensEvery = 500 * time.Millisecond

// watchTokens keeps the interface's tokens as they stand in the tokens file,
// until ctx ends. A file that can't be read or meant leaves the tokens as they
// were, and the log says so: half of a file must not let in more or fewer than
// were meant.
//
// seen is the file as it was before the tokens were read that are in force: it
// may be an older one, and is then read once more, but never a newer one.
func (s *service) watchTokens(ctx context.Context, seen fs.FileInfo) {
	path := s.opts.Config.TokensFile
	for (systemClock{}).Wait(ctx, tokensEvery) == nil {
		now := statFile(path)
		if sameFile(seen, now) {
			continue
		}
		seen = now
		tokens, err := s.opts.Config.callers()
		if err == nil {
			err = s.api.SetTokens(tokens)
		}
		if err != nil {
			s.opts.Log.Error("the tokens could not be read again; those known before stay", "path", path, "err", err)
			continue
		}
		s.opts.Log.Info("tokens in force", "path", path, "tokens", len(tokens))
	}
}
