package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// app is the program without its process, so that tests can run it.
type app struct {
	stdout, stderr io.Writer
	terminal       bool // stderr is one
	dial           func(*options) (*cluster, error)
}

// command is one word after "kubectl shard".
type command struct {
	name, args string // as in "owner RESOURCE/NAME"
	short      string // what it does, in a line
	long       string // what else is to be known
	least      int    // of arguments
	most       int    // negative: any number
	// flags declares those of the command alone.
	flags func(*flag.FlagSet)
	// run does the work. Its error decides on the exit code: see exitCode.
	run func(context.Context, *session, []string) error
	// offers are the first arguments, for completion.
	offers func(context.Context, *session) []string
	// offline says that the command can do without an API server.
	offline bool
}

// session is what a command runs with.
type session struct {
	*app
	options
	*cluster // nil for offline commands
	progress *progress
}

// commands returns all of them, new ones, in the order of the help.
func commands() []*command {
	return []*command{
		statusCommand(), ownerCommand(), explainCommand(), ringCommand(), verifyCommand(),
		cordonCommand(), uncordonCommand(), drainCommand(), migrateCommand(), rebalanceCommand(),
		installCommand(), completionCommand(),
	}
}

// run returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) && len(args) == 1 {
		a.overview(a.stdout)
		return exitOK
	}
	all := commands()
	if args[0] == "help" {
		args = []string{args[1], "-h"}
	}
	if args[0] == completeCommand {
		a.complete(ctx, all, args[1:])
		return exitOK
	}
	i := slices.IndexFunc(all, func(c *command) bool { return c.name == args[0] })
	if i < 0 {
		return a.exit(usagef("there is no command %q; kubectl shard help lists all", args[0]))
	}
	return a.exit(a.execute(ctx, all[i], args[1:]))
}

func (a *app) execute(ctx context.Context, c *command, args []string) error {
	s := &session{app: a, progress: &progress{out: a.stderr, terminal: a.terminal}}
	set := c.flagSet(&s.options)
	rest, err := parse(set, args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(a.stdout, set)
		return nil
	}
	if err != nil {
		return usagef("%v; see kubectl shard %s -h", err, c.name)
	}
	if len(rest) < c.least || c.most >= 0 && len(rest) > c.most {
		return usagef("usage: kubectl shard %s %s", c.name, c.args)
	}
	if err := s.options.validate(); err != nil {
		return err
	}
	if !c.offline {
		if s.cluster, err = a.dial(&s.options); err != nil {
			return err
		}
	}
	defer s.progress.end()
	return c.run(ctx, s, rest)
}

func (c *command) flagSet(o *options) *flag.FlagSet {
	set := flag.NewFlagSet(c.name, flag.ContinueOnError)
	set.SetOutput(io.Discard) // errors are told by exit, help by help
	o.register(set)
	if c.flags != nil {
		c.flags(set)
	}
	return set
}

// exit tells the error, and returns the exit code for it.
func (a *app) exit(err error) int {
	if err != nil && !errors.Is(err, errSaid) {
		fmt.Fprintf(a.stderr, "error: %v\n", err)
	}
	return exitCode(err)
}

func (a *app) overview(out io.Writer) {
	fmt.Fprint(out, "Show and steer the rings of a sharded operator.\n\n")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(table, "  kubectl shard %s\t%s\n", strings.TrimSpace(c.name+" "+c.args), c.short)
	}
	_ = table.Flush()
	fmt.Fprint(out, "\nkubectl shard help COMMAND has the flags. Exit codes: 0 well, 1 something found, 2 wrong usage, 3 not reached or not allowed.\n")
}

// help shows the flags of the command first, then those that all have.
func (c *command) help(out io.Writer, set *flag.FlagSet) {
	fmt.Fprintf(out, "kubectl shard %s\n\n%s.\n", strings.TrimSpace(c.name+" "+c.args), c.short)
	if c.long != "" {
		fmt.Fprintf(out, "\n%s\n", c.long)
	}
	common := flag.NewFlagSet("", flag.ContinueOnError)
	(&options{}).register(common)
	for _, group := range []struct {
		title string
		all   bool
	}{{"Flags", false}, {"Flags of all commands", true}} {
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		titled := false
		set.VisitAll(func(f *flag.Flag) {
			if (common.Lookup(f.Name) != nil) != group.all || len(f.Name) == 1 {
				return
			}
			if !titled {
				fmt.Fprintf(out, "\n%s:\n", group.title)
				titled = true
			}
			fmt.Fprintf(table, "  %s\t--%s\t%s\n", shortOf(set, f), f.Name, f.Usage)
		})
		_ = table.Flush()
	}
}

// shortOf returns the flag of one letter that is the same as f: they have one description.
func shortOf(set *flag.FlagSet, f *flag.Flag) string {
	short := ""
	set.VisitAll(func(other *flag.Flag) {
		if len(other.Name) == 1 && other.Usage == f.Usage {
			short = "-" + other.Name + ","
		}
	})
	return short
}
