package sharding

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

// aState is state 3 of epoch 7 of object u, of version 2.
func aState(data string) State {
	return State{UID: "u", Epoch: 7, Sequence: 3, From: "a", Version: 2, Data: []byte(data)}
}

// reasonOf returns the reason of an error; "" for none.
func reasonOf(t *testing.T, err error) stateReason {
	t.Helper()
	var bad *stateError
	if err != nil && !errors.As(err, &bad) {
		t.Fatalf("%v is no stateError", err)
	}
	if err == nil {
		return ""
	}
	return bad.reason
}

// openAll reads an annotation as a target would that knows version 2, on object u in epoch 8.
func openAll(text string) (State, error) {
	e, err := parseEnvelope(text)
	if err != nil {
		return State{}, err
	}
	if err := e.belongs("u", 8, 2); err != nil {
		return State{}, err
	}
	return e.open(e.Data)
}

func TestEnvelopeText(t *testing.T) {
	const want = `{"v":1,"uid":"u","epoch":7,"seq":3,"from":"a","version":2,"size":5,"sum":"26c7827d889f6da3","data":"aGVsbG8="}`
	if got := seal(aState("hello")).String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEnvelopesThatCannotBeUsed(t *testing.T) {
	good := seal(aState("hello")).String()
	inSecrets := seal(aState(strings.Repeat("x", stateChunk+1))).inSecrets("state-x").String()
	for name, test := range map[string]struct {
		text, old, new string
		want           stateReason
	}{
		"as it was":                    {good, "", "", ""},
		"not JSON":                     {good, "{", "", reasonMalformed},
		"empty":                        {"", "", "", reasonMalformed},
		"cut off":                      {good, `","data":"aGVsbG8="}`, "", reasonMalformed},
		"data that is not base64":      {good, "aGVs", "a?Vs", reasonMalformed},
		"a format of the future":       {good, `"v":1`, `"v":2`, reasonNewerVersion},
		"no format":                    {good, `"v":1`, `"v":0`, reasonMalformed},
		"no object":                    {good, `"uid":"u"`, `"uid":""`, reasonMalformed},
		"no sequence":                  {good, `"seq":3`, `"seq":0`, reasonMalformed},
		"another object":               {good, `"uid":"u"`, `"uid":"w"`, reasonOtherObject},
		"an epoch that is yet to come": {good, `"epoch":7`, `"epoch":9`, reasonOtherObject},
		"the epoch of now":             {good, `"epoch":7`, `"epoch":8`, ""},
		"an epoch of before":           {good, `"epoch":7`, `"epoch":2`, ""},
		"a negative epoch":             {good, `"epoch":7`, `"epoch":-1`, reasonMalformed},
		"a newer version":              {good, `"version":2`, `"version":3`, reasonNewerVersion},
		"an older version":             {good, `"version":2`, `"version":1`, ""},
		"no version":                   {good, `"version":2`, `"version":0`, reasonMalformed},
		"truncated":                    {good, "aGVsbG8=", "aGVsbA==", reasonTruncated},
		"longer than it was":           {good, "aGVsbG8=", "aGVsbG8h", reasonTruncated},
		"of the same length":           {good, "aGVsbG8=", "aGVsbHA=", reasonChecksum},
		"another checksum":             {good, `"sum":"26`, `"sum":"27`, reasonChecksum},
		"a negative size":              {good, `"size":5`, `"size":-5`, reasonMalformed},
		"a size beyond all":            {good, `"size":5`, `"size":99999999`, reasonTooLarge},
		"too few Secrets":              {inSecrets, `"chunks":2`, `"chunks":1`, reasonMalformed},
		"too many Secrets":             {inSecrets, `"chunks":2`, `"chunks":1000000`, reasonMalformed},
		"Secrets without a name":       {inSecrets, `"secret":"state-x"`, `"secret":""`, reasonMalformed},
		"data inside and outside":      {inSecrets, `"secret"`, `"data":"aGVsbG8=","secret"`, reasonMalformed},
	} {
		text := strings.Replace(test.text, test.old, test.new, 1)
		if text == test.text && test.old != "" {
			t.Fatalf("%s: %q is not in %s", name, test.old, test.text)
		}
		_, err := openAll(text)
		if got := reasonOf(t, err); got != test.want {
			t.Errorf("%s: reason %q (%v), want %q", name, got, err, test.want)
		}
	}
}

// TestEnvelopesKeepTheState puts states of many sizes in, takes them out of one text or of Secrets, and changes a byte on the way.
func TestEnvelopesKeepTheState(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 1, DefaultInlineState, stateChunk - 1, stateChunk, stateChunk + 1, 3*stateChunk - 1}
	for range 20 {
		sizes = append(sizes, random.IntN(3*stateChunk))
	}
	for _, size := range sizes {
		state := State{UID: "u", Epoch: random.Int64N(9), Sequence: 1 + random.Int64N(9), From: "a", Version: 1 + random.IntN(2), Data: make([]byte, size)}
		for i := range state.Data {
			state.Data[i] = byte(random.Uint32())
		}
		inline := seal(state)
		if got, err := openAll(inline.String()); err != nil || !bytes.Equal(got.Data, state.Data) || got.Sequence != state.Sequence {
			t.Fatalf("%d bytes inside: %v, error %v", size, got.UID, err)
		}
		if size == 0 {
			continue
		}
		outside, err := parseEnvelope(inline.inSecrets("state-x").String())
		if err != nil {
			t.Fatalf("%d bytes outside: %v", size, err)
		}
		var joined []byte
		for i := range outside.Chunks {
			if part := chunk(state.Data, i); len(part) == 0 || len(part) > stateChunk {
				t.Errorf("part %d of %d bytes has %d", i, size, len(part))
			}
			joined = append(joined, chunk(state.Data, i)...)
		}
		if diff := cmp.Diff(true, bytes.Equal(joined, state.Data)); diff != "" {
			t.Errorf("the parts of %d bytes are not the whole", size)
		}
		if _, err := outside.open(joined); err != nil {
			t.Errorf("%d bytes outside: %v", size, err)
		}
		joined[random.IntN(size)] ^= 1 << random.IntN(8)
		if _, err := outside.open(joined); reasonOf(t, err) != reasonChecksum {
			t.Errorf("%d bytes with one bit changed: %v", size, err)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add(seal(aState("hello")).String())
	f.Add(seal(aState(strings.Repeat("x", stateChunk+1))).inSecrets("state-x").String())
	f.Add(`{"v":1,"uid":"u","epoch":7,"seq":3,"version":2,"size":0,"sum":"ef46db3751d8e999"}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseEnvelope(text)
		if err != nil {
			reasonOf(t, err)
			return
		}
		again, err := parseEnvelope(e.String())
		if err != nil {
			t.Fatalf("%q is read as %+v, which is written as %q and not read: %v", text, e, e.String(), err)
		}
		if again.String() != e.String() {
			t.Fatalf("%q is written as %q and then as %q", text, e.String(), again.String())
		}
		if state, err := e.open(e.Data); err == nil && (len(state.Data) != e.Size || checksum(state.Data) != e.Sum) {
			t.Fatalf("%q opens as something else", text)
		}
	})
}

func TestStateNames(t *testing.T) {
	long := strings.Repeat("r", 63)
	e := seal(State{UID: types.UID(strings.Repeat("u", 100)), Epoch: 1 << 62, Sequence: 1 << 62, Version: 1, Data: []byte("x")})
	if problems := validation.IsDNS1123Subdomain(chunkName(e.secretName(long), 15)); len(problems) > 0 {
		t.Errorf("the longest name: %v", problems)
	}
	names := []string{}
	for _, uid := range []types.UID{"u", "v"} {
		for _, epoch := range []int64{1, 12} {
			for _, sequence := range []int64{2, 21} {
				for _, data := range []string{"x", "y"} {
					names = append(names, seal(State{UID: uid, Epoch: epoch, Sequence: sequence, Data: []byte(data)}).secretName("r"))
				}
			}
		}
	}
	slices.Sort(names)
	if n := len(slices.Compact(names)); n != 16 {
		t.Errorf("16 states have %d names", n)
	}
}

func TestStatePending(t *testing.T) {
	state := seal(aState("hello")).String()
	for name, test := range map[string]struct {
		epoch, state string
		want         bool
	}{
		"no state":           {"8", "", false},
		"handed over":        {"8", state, true},
		"moved on untouched": {"9", state, true},
		"own checkpoint":     {"7", state, false},
		"unreadable":         {"7", "what?", true},
	} {
		root := &metav1.ObjectMeta{Annotations: map[string]string{"epoch.shard.io/r": test.epoch}}
		if test.state != "" {
			root.Annotations["state.shard.io/r"] = test.state
		}
		if got := statePending(root, "r"); got != test.want {
			t.Errorf("%s: pending is %v, want %v", name, got, test.want)
		}
	}
}

func TestAnnotationsLimit(t *testing.T) {
	root := &metav1.ObjectMeta{Annotations: map[string]string{
		"big": strings.Repeat("x", 200<<10), "state.shard.io/r": strings.Repeat("y", 50<<10),
	}}
	for size, want := range map[int]bool{10: true, 50 << 10: true, 60 << 10: false} {
		if got := fits(root, "state.shard.io/r", strings.Repeat("z", size)); got != want {
			t.Errorf("a state of %d bytes fits: %v, want %v", size, got, want)
		}
	}
}

func TestRefusalText(t *testing.T) {
	r := &refusal{By: "b", From: "a", Epoch: 3, Reason: reasonChecksum, Message: strings.Repeat("é", 400)}
	patch := refusePatch(&metav1.ObjectMeta{ResourceVersion: "5"}, "r", r)
	if !strings.Contains(string(patch), `"labels":{"refused.shard.io/r":"b"}`) || !strings.Contains(string(patch), `"resourceVersion":"5"`) {
		t.Errorf("patch is %s", patch)
	}
	root := &metav1.ObjectMeta{
		Labels: map[string]string{"refused.shard.io/r": "b"}, Annotations: map[string]string{"refused.shard.io/r": r.String()},
	}
	got := refusalOf(root, "r")
	if got.From != "a" || got.Reason != reasonChecksum || len(got.Message) > maxRefusalMessage {
		t.Errorf("read as %+v", got)
	}
	root.Annotations["refused.shard.io/r"] = `{"by":"somebody else","from":"x"}`
	if diff := cmp.Diff(&refusal{By: "b"}, refusalOf(root, "r")); diff != "" {
		t.Errorf("of another one (-want +got):\n%s", diff)
	}
	if refusalOf(&metav1.ObjectMeta{Annotations: root.Annotations}, "r") != nil {
		t.Error("an annotation without a label is a refusal")
	}
}
