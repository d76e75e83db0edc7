package sharding

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s seldom
		told := 0
		for range 10 * 60 { // ten minutes, one second after the other
			if s.due() {
				told++
			}
			time.Sleep(time.Second)
		}
		if told != 10 {
			t.Errorf("told %d times in ten minutes, want once a minute", told)
		}
	})
}
