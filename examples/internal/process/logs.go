package process

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"strconv"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
)

// SetupLogging makes klog, and with it all libraries, log to out as the flags
// say. It is called once, before anything logs.
func (f *Flags) SetupLogging(out io.Writer) error {
	if f.Log.Format == "json" {
		// In slog, what klog calls verbosity n is the level -n.
		handler := slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.Level(-f.Log.Verbosity)})
		klog.SetSlogLogger(slog.New(named{handler}))
	} else {
		config := textlogger.NewConfig(textlogger.Verbosity(f.Log.Verbosity), textlogger.Output(out))
		klog.SetLoggerWithOptions(textlogger.NewLogger(config), klog.ContextualLogger(true))
	}
	set := flag.NewFlagSet("klog", flag.ContinueOnError) // for libraries that ask klog.V
	klog.InitFlags(set)
	return set.Set("v", strconv.Itoa(f.Log.Verbosity))
}

// named writes the name of an object in one form, namespace/name, whatever type the caller has it in: else it would be an object
// with two fields here and a string there, which no store of logs has one column for.
type named struct{ slog.Handler }

func (h named) Handle(ctx context.Context, record slog.Record) error {
	out := slog.NewRecord(record.Time, record.Level, record.Message, record.PC)
	record.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(plain(a))
		return true
	})
	return h.Handler.Handle(ctx, out)
}

// WithAttrs is named as well.
func (h named) WithAttrs(attrs []slog.Attr) slog.Handler {
	changed := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		changed[i] = plain(a)
	}
	return named{h.Handler.WithAttrs(changed)}
}

// WithGroup is named as well.
func (h named) WithGroup(name string) slog.Handler { return named{h.Handler.WithGroup(name)} }

func plain(a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case types.NamespacedName:
		return slog.String(a.Key, v.String())
	case klog.ObjectRef:
		return slog.String(a.Key, v.String())
	case []types.NamespacedName:
		names := make([]string, len(v))
		for i, name := range v {
			names[i] = name.String()
		}
		return slog.Any(a.Key, names)
	}
	return a
}
