// Command run starts a control plane on loopback, prints the path of a
// kubeconfig for it, and stops it on Ctrl-C (SIGINT) or SIGTERM. With -build it
// only builds the binaries, where they are not there yet.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/shard-io/shard-controller/internal/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("controlplane", flag.ContinueOnError)
	flags.SetOutput(stderr)
	build := flags.Bool("build", false, "build the binaries if they are missing, print their paths, and exit")
	logDir := flags.String("log-dir", "", "directory that keeps the servers' logs (default: removed at the end)")
	auditLog := flags.String("audit-log", "", "file for the API server's audit log (default: none)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *build {
		binaries, err := controlplane.FindBinaries(ctx, stderr)
		if err == nil {
			_, err = fmt.Fprintf(stdout, "%s\n%s\n", binaries.Etcd, binaries.APIServer)
		}
		return err
	}
	return serve(ctx, controlplane.Options{Log: stderr, LogDir: *logDir, AuditLog: *auditLog, APIServerFlags: flags.Args()}, stdout, stderr)
}

func serve(ctx context.Context, o controlplane.Options, stdout, stderr io.Writer) error {
	begin := time.Now()
	c, err := controlplane.Start(ctx, o)
	if err != nil {
		return err
	}
	defer c.Stop()
	path, err := c.KubeconfigFile(c.Config())
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "controlplane: ready at %s after %s; Ctrl-C stops it and removes its data\n",
		c.Config().Host, time.Since(begin).Round(100*time.Millisecond))
	if _, err := fmt.Fprintf(stdout, "export KUBECONFIG=%s\n", path); err != nil {
		return err
	}
	<-ctx.Done()
	fmt.Fprintln(stderr, "controlplane: stopping")
	return nil
}
