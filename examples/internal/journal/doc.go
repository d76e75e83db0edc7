// Package journal is the witness of the examples: each worker process writes
// down when it starts and ends the reconcile of an object and, before every
// request that changes something, that it is about to. Afterwards Check says
// from the journals of all processes whether two of them ever had the same
// object in hand at once.
//
// What the verdict rests on:
//
//   - A record is one write(2) of one line to a file opened with O_APPEND. It
//     survives a process that is killed; it need not survive a machine that is.
//   - A record of a mutating request is written before the request is sent, by
//     the innermost HTTP transport, so after every rate limiter and retry. If the
//     record cannot be written, the request is not sent.
//   - Times are wall-clock nanoseconds and are compared between processes. The
//     processes must share one clock: one machine, no clock steps during the run.
//
// What it does not see: a request that was recorded, delayed on its way and
// applied by the server later. Refusing such a request is the business of
// resourceVersion preconditions and of the server-side fence.
package journal
