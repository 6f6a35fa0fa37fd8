//go:build !unix

package main

// lockFolder locks nothing where the service does not run.
func lockFolder(string) (unlock func(), err error) { return func() {}, nil }
