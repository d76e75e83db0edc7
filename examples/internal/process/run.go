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
	// Kind is that of the configuration file. A program without one has neither --config nor endpoints.
	Kind string
	// Settings points to a struct with the program's own part of the file. What Register declares is in it, under names
	// that follow from those of the flags.
	Settings any
	// Flags are the common ones; Register adds those of the program and
	// Validate checks them after the command line and the file were read.
	Flags    Flags
	Register func(*flag.FlagSet)
	Validate func() error
	// Run does the work until ctx is done, and returns nil after an orderly
	// stop. ctx carries the logger.
	Run func(ctx context.Context) error

	config      string
	printConfig bool
}

// Main runs the program with the arguments of the process, and exits.
func (p *Program) Main() {
	os.Exit(p.Execute(os.Args[1:], os.Stdout, os.Stderr, os.Exit))
}

// Execute runs the program with these arguments and returns its exit code. exit is called on the second signal, from another
// goroutine.
func (p *Program) Execute(args []string, stdout, stderr io.Writer, exit func(int)) int {
	if code, ok := p.parse(args, stdout, stderr); !ok {
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
func (p *Program) parse(args []string, stdout, stderr io.Writer) (code int, ok bool) {
	set := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard) // a mistake is one line, and not all the flags
	doc, defaults, err := p.register(set)
	if err == nil {
		err = set.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			set.SetOutput(stderr)
			set.Usage()
			return ExitOK, false
		}
		if err != nil {
			err = fmt.Errorf("%w; --help lists the flags", err)
		}
	}
	if err == nil && set.NArg() > 0 {
		err = fmt.Errorf("%q: there are flags only, no arguments", set.Arg(0))
	}
	if err == nil {
		err = doc.merge(set, defaults, p.config)
	}
	if err == nil {
		err = errors.Join(p.Flags.validate(), p.Validate())
	}
	if err == nil && p.printConfig {
		var text []byte
		if text, err = doc.print(); err == nil {
			_, _ = stdout.Write(text)
			return ExitOK, false
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
		return ExitUsage, false
	}
	return ExitOK, true
}

// register declares all flags. The defaults are the values that they have then.
func (p *Program) register(set *flag.FlagSet) (doc *document, defaults map[string]any, err error) {
	p.Flags.register(set, p.Kind != "")
	p.Register(set)
	doc = &document{kind: p.Kind, parts: []any{&p.Flags}}
	if p.Kind == "" {
		return doc, nil, nil
	}
	doc.parts = append(doc.parts, p.Settings)
	set.StringVar(&p.config, "config", "", "YAML file of kind "+p.Kind+" with these settings; flags that are given win over it")
	set.BoolVar(&p.printConfig, "print-config", false, "print the settings in effect as such a file, and exit")
	if defaults, err = doc.fields(); err == nil {
		err = doc.checkFlags(set, defaults)
	}
	return doc, defaults, err
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
