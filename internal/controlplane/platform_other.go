//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package controlplane

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

func supported() error {
	return fmt.Errorf("controlplane: %w on %s: it needs /bin/sh and file locks; use Linux or macOS", errors.ErrUnsupported, runtime.GOOS)
}

func detached() *syscall.SysProcAttr { return nil }

func tryLock(*os.File) (bool, error) { return false, supported() }

func freeze(int) error { return supported() }

func thaw(int) error { return supported() }

func kill(int) error { return supported() }
