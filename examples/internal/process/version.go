package process

import (
	"cmp"
	"runtime/debug"
)

// stamped is the version of an image: "make images" and the Dockerfile set it to the tag, by the linker.
var stamped string

// Version is that of the image, or else of the build, "unknown" if it has none.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return cmp.Or(stamped, info.Main.Version, "unknown")
}
