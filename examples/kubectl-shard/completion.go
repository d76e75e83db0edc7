package main

import (
	"context"
	"embed"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"
)

// completeCommand is what shells ask: "__complete -- owner secr" has the words so far, without "kubectl shard", the last one unfinished.
const completeCommand = "__complete"

// completeTimeout bounds how long a shell waits for the names of shards.
const completeTimeout = 3 * time.Second

//go:embed completion
var completionScripts embed.FS

func completionCommand() *command {
	shells := []string{"bash", "fish", "zsh"}
	return &command{
		name: "completion", args: "bash|zsh|fish", least: 1, most: 1, offline: true,
		short: "Print a script by which a shell completes commands, flags and shards",
		long: "The script is for kubectl-shard. kubectl itself asks a program kubectl_complete-shard on the PATH: a link to kubectl-shard of that name is one.\n\n" +
			"  source <(kubectl-shard completion bash)\n  ln -s kubectl-shard \"$(dirname \"$(command -v kubectl-shard)\")/kubectl_complete-shard\"",
		offers: func(context.Context, *session) []string { return shells },
		run: func(_ context.Context, s *session, args []string) error {
			script, err := completionScripts.ReadFile("completion/kubectl-shard." + args[0])
			if err != nil {
				return usagef("%q is none of %s", args[0], strings.Join(shells, ", "))
			}
			_, err = s.stdout.Write(script)
			return err
		},
	}
}

// complete prints what the last word may become, a line each, and a last line with what kubectl wants to know of plugins: ":4", no file names.
func (a *app) complete(ctx context.Context, all []*command, words []string) {
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, word := range a.candidates(ctx, all, words) {
		fmt.Fprintln(a.stdout, word)
	}
	fmt.Fprintln(a.stdout, ":4")
}

func (a *app) candidates(ctx context.Context, all []*command, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	if len(words) == 1 {
		var names []string
		for _, c := range all {
			names = append(names, c.name)
		}
		return startingWith(names, last)
	}
	i := slices.IndexFunc(all, func(c *command) bool { return c.name == words[0] })
	if i < 0 {
		return nil
	}
	c := all[i]
	o := &options{}
	set := c.flagSet(o)
	before := words[1 : len(words)-1]
	asked := ""
	if n := len(before); n > 0 && strings.HasPrefix(before[n-1], "-") && !strings.Contains(before[n-1], "=") {
		asked = strings.TrimLeft(before[n-1], "-")
		before = before[:n-1]
		if f := set.Lookup(asked); f == nil || isBool(f) {
			asked, before = "", before[:n]
		}
	}
	switch args, err := parse(set, before); {
	case asked == "output" || asked == "o":
		return startingWith([]string{"json", "yaml"}, last)
	case asked == "from" || asked == "to":
		return startingWith(a.offered(ctx, o, false, offerShards), last)
	case asked != "":
		return nil
	case strings.HasPrefix(last, "-"):
		var names []string
		set.VisitAll(func(f *flag.Flag) {
			if len(f.Name) > 1 {
				names = append(names, "--"+f.Name)
			}
		})
		return startingWith(names, last)
	case err == nil && len(args) == 0 && c.offers != nil:
		return startingWith(a.offered(ctx, o, c.offline, c.offers), last)
	}
	return nil
}

// offered asks the API server, but not for long, and never says an error: a shell would show it in the middle of a command line.
func (a *app) offered(ctx context.Context, o *options, offline bool, offers func(context.Context, *session) []string) []string {
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	s := &session{app: a, options: *o, progress: &progress{out: a.stderr}}
	if o.requestTimeout = completeTimeout; o.validate() != nil {
		return nil
	}
	if !offline {
		var err error
		if s.cluster, err = a.dial(o); err != nil {
			return nil
		}
	}
	return offers(ctx, s)
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

func startingWith(words []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(w string) bool { return !strings.HasPrefix(w, prefix) })
}
