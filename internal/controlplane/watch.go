package controlplane

import "fmt"

// watch says so on the log when a server exits that nobody has stopped.
func (c *ControlPlane) watch(s *server) {
	go func() {
		<-s.exited
		if !s.released.Load() && !s.killed.Load() {
			fmt.Fprintf(c.options.Log, "controlplane: %v\n", s.exitError())
		}
	}()
}
