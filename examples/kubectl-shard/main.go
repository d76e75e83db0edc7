// The program kubectl-shard shows and steers the rings of a cluster: "kubectl shard status" and the like, if it is on the PATH, or as a program
// of its own. It talks to the API server only, with the rights of whoever calls it, and needs neither manager nor workers to be reachable.
//
// What it reads it reads from storage, page by page, and keeps no more of it than it prints. What it writes are the fields of the API that are
// made for people: spec.cordoned and spec.draining of a ShardInstance, and ShardMigrations. It never writes to an object of a ring.
//
// Exit codes: 0 all is well, or done; 1 something is not as it should be, and is said; 2 wrong usage, which includes names of what does not
// exist; 3 the API server could not be reached or did not allow what was needed.
//
// docs/kubectl-shard.md has all commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{stdout: os.Stdout, stderr: os.Stderr, terminal: isTerminal(os.Stderr), dial: dial}
	args := os.Args[1:]
	if strings.HasPrefix(filepath.Base(os.Args[0]), "kubectl_complete") {
		args = append([]string{completeCommand, "--"}, args...)
	}
	code := a.run(ctx, args)
	stop()
	os.Exit(code)
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
