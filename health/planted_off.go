//go:build !shardbugs

package health

// planted says whether a known mistake of the protocol is to be made, so that a test can show that it would be found. Outside of that
// test this is a constant, and the compiler removes what depends on it.
func planted(string) bool { return false }
