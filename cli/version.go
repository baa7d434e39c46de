package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by packagers: -ldflags "-X qosctl/cli.version=1.2.3".
var version string

// Version is the program's version: the packager's, else what the build knows of its source.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	switch {
	case info.Main.Version != "" && info.Main.Version != "(devel)":
		return info.Main.Version
	case revision != "":
		return "devel-" + revision + dirty
	}
	return "devel"
}

type versionInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisVersion() versionInfo {
	return versionInfo{Version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
}

func newVersionCmd(a *app) *cobra.Command {
	var f form
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Example: "  qosctl version\n  qosctl version -o json",
		Args:    args(cobra.NoArgs),
		RunE: run(func(*cobra.Command, []string) error {
			v := thisVersion()
			return f.print(a.out, v, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "qosctl %s (%s, %s)\n", v.Version, v.Go, v.Platform)
				return err
			})
		}),
	}
	addForm(cmd, &f)
	return cmd
}
