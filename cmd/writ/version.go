package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionInfo says which program this is.
type versionInfo struct {
	Version  string `json:"version"`          // of the module, "(devel)" if built from a folder
	Commit   string `json:"commit,omitempty"` // of the source, empty if not known
	Modified bool   `json:"modified"`         // the source was changed after that commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show which writ this is",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			return a.show(v, func(w io.Writer) {
				fmt.Fprintf(w, "writ %s", v.Version)
				if v.Commit != "" {
					fmt.Fprintf(w, ", commit %s", v.Commit)
					if v.Modified {
						fmt.Fprint(w, " and later changes")
					}
				}
				fmt.Fprintf(w, " (%s, %s)\n", v.Go, v.Platform)
			})
		},
	}
}

func readVersion() versionInfo {
	v := versionInfo{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
