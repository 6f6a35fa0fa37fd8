package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// noArgs refuses arguments as a mistake of the command line.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument, got %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}

// oneArg asks for exactly one argument, named for what it is.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("%s takes exactly one argument, %s, got %d; see %s --help", cmd.CommandPath(), what, len(args), cmd.CommandPath())
		}
		return nil
	}
}

// given lists those of the flags that are on the command line.
func given(cmd *cobra.Command, flags ...string) []string {
	var found []string
	for _, f := range flags {
		if cmd.Flags().Changed(f) {
			found = append(found, "--"+f)
		}
	}
	return found
}

// oneOf refuses more than one of flags that exclude each other.
func oneOf(cmd *cobra.Command, flags ...string) error {
	if found := given(cmd, flags...); len(found) > 1 {
		return usagef("%s exclude each other: give one of them", strings.Join(found, " and "))
	}
	return nil
}
