package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"writ/domain/signedop"
)

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the person names the file
	if err != nil {
		return nil, fileError("read", path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fileError("read", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: more than %d bytes, this can't be the right file", path, limit)
	}
	return data, nil
}

// readWrit reads a writ's bytes and parses them.
func readWrit(path string) ([]byte, *signedop.Unverified, error) {
	f, err := readSigned(path)
	if err != nil {
		return nil, nil, err
	}
	if f.order == nil {
		return nil, nil, fmt.Errorf("read writ %s: it is a resolution, which orders nothing: writ recovery resolve hands it in", path)
	}
	return f.raw, f.order, nil
}

// writeNew makes a file that must not exist yet. The name stands for the whole
// content or, after an error, for nothing.
func writeNew(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) //nolint:gosec // the person names the file
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("write %s: the file exists, and nothing is overwritten: choose another name or move it away", path)
		}
		return fileError("write", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(path)
		return fileError("write", path, err)
	}
	return nil
}

// replace puts new content under a name at once: whoever opens the file sees
// the old content or the new, and after an error it is the old.
func replace(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".writ-*") // mode 0600
	if err != nil {
		return fileError("write", path, err)
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fileError("write", path, err)
	}
	return nil
}

// mustNotExist says early what writeNew would say after all the work.
func mustNotExist(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("write %s: the file exists, and nothing is overwritten: choose another name or move it away", path)
	}
	return nil
}

// fileError says what was tried on which file, once.
func fileError(verb, path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("%s %s: %w", verb, path, err)
}
