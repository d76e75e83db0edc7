//go:build unix

// Package child runs the programs of this module as processes of their own, for
// tests and measurements from outside: they can be killed, stopped and
// continued, and their memory is read where the kernel keeps it.
//
// A child does not outlive the process that started it, however that ends: each
// runs under a small shell that holds the reading end of a pipe from the parent
// and kills the child when that pipe closes. Only killing that shell itself with
// signal 9 defeats this. A child has no input, and its output goes to a file.
//
// What it is not: a supervisor. A child that ends is not started again.
package child
