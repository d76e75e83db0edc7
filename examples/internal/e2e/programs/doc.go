// Package programs has only tests: of manager and worker as whole programs, started like anybody starts them, with what people get wrong.
// Each mistake has to be one line that says what to do, and must neither crash the process nor let it act.
package programs
