// Package process is what the example programs have in common as processes:
// flags, logging, a connection to the API server, HTTP servers for probes and
// metrics, signals and exit codes.
//
// What it promises to whoever runs such a program:
//
//   - SIGTERM or SIGINT begins an orderly stop; a second one ends the process at
//     once, with ExitFailure.
//   - The exit code is ExitOK after an orderly stop, ExitUsage for wrong flags
//     and ExitFailure for everything else.
//   - Servers listen on loopback unless told otherwise, and answer from the start
//     until everything else has stopped. Their addresses are logged.
package process
