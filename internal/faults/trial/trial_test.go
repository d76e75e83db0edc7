package trial

import "testing"

func TestStampRoundTrip(t *testing.T) {
	want := Stamp{Shard: "w-1", Process: "w-1.2", Epoch: 3, Number: 4}
	if got, err := ParseStamp(want.String()); err != nil || got != want {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

func TestBadStamps(t *testing.T) {
	for _, text := range []string{"", "w-1", "w-1/1/2", "w-1/1/x/2", "w-1/1/2/x", "w-1/1/2/3/4"} {
		if got, err := ParseStamp(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}
