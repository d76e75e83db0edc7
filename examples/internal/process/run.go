package process

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/klog/v2"
)

// Exit codes of the example programs.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2
)

// Program is an example program.
type Program struct {
	// Name is the command's, for usage and messages.
	Name string
	// Flags are the common ones; Register adds those of the program and
	// Validate checks them after the command line was read.
	Flags    Flags
	Register func(*flag.FlagSet)
	Validate func() error
	// Run does the work until ctx is done, and returns nil after an orderly
	// stop. ctx carries the logger.
	Run func(ctx context.Context) error
}

// Main runs the program with the arguments of the process, and exits.
func (p *Program) Main() {
	os.Exit(p.main(os.Args[1:], os.Stderr, os.Exit))
}

// main is Main for tests. exit is called on the second signal, from another
// goroutine.
func (p *Program) main(args []string, stderr io.Writer, exit func(int)) int {
	if code, ok := p.parse(args, stderr); !ok {
		return code
	}
	if err := p.Flags.SetupLogging(stderr); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
		return ExitFailure
	}
	defer klog.Flush()
	logger := klog.Background()
	ctx, stop := untilSignal(klog.NewContext(context.Background(), logger), exit)
	defer stop()
	if err := p.Run(ctx); err != nil {
		logger.Error(err, "Stopped by an error")
		return ExitFailure
	}
	logger.Info("Stopped in order")
	return ExitOK
}

// parse reads the flags; if it returns false, the program ends with the code.
func (p *Program) parse(args []string, stderr io.Writer) (code int, ok bool) {
	set := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	set.SetOutput(stderr)
	p.Flags.Register(set)
	p.Register(set)
	err := set.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return ExitOK, false
	}
	if err != nil {
		return ExitUsage, false // the set has said it
	}
	if set.NArg() > 0 {
		err = fmt.Errorf("%q: there are flags only, no arguments", set.Arg(0))
	}
	if err := errors.Join(err, p.Flags.Validate(), p.Validate()); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
		return ExitUsage, false
	}
	return ExitOK, true
}

// untilSignal returns a context that is done after the first SIGTERM or SIGINT.
func untilSignal(ctx context.Context, exit func(int)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case s := <-signals:
				if n > 0 {
					klog.FromContext(ctx).Info("Second signal, not waiting any longer", "signal", s.String())
					klog.Flush()
					exit(ExitFailure)
					return
				}
				klog.FromContext(ctx).Info("Stopping", "signal", s.String())
				cancel(fmt.Errorf("signal %s", s))
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
