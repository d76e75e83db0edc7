package sharding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestStateTransferIsValidated(t *testing.T) {
	state := JSONState[int]{}
	good := func(change func(*StateTransfer)) StateTransfer {
		transfer := StateTransfer{Exporter: state, Importer: state}
		change(&transfer)
		return transfer
	}
	for name, test := range map[string]struct {
		transfer StateTransfer
		want     string // in the error; "" for none
	}{
		"the least":             {good(func(*StateTransfer) {}), ""},
		"no exporter":           {StateTransfer{Importer: state}, "Exporter"},
		"no importer":           {StateTransfer{Exporter: state}, "Importer"},
		"a negative version":    {good(func(t *StateTransfer) { t.Version = -1 }), "State: Version is -1"},
		"too much inside":       {good(func(t *StateTransfer) { t.InlineLimit = MaxInlineState + 1 }), "State: InlineLimit is 131073"},
		"too large":             {good(func(t *StateTransfer) { t.MaxSize = MaxState + 1 }), "State: MaxSize is 16777217"},
		"checkpoints backwards": {good(func(t *StateTransfer) { t.Checkpoint = -time.Second }), "State: Checkpoint is -1s"},
	} {
		got, err := test.transfer.complete()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
		if err == nil && (got.Version != 1 || got.InlineLimit != DefaultInlineState || got.MaxSize != MaxState) {
			t.Errorf("%s: defaults are %+v", name, got)
		}
	}
}

func TestJSONState(t *testing.T) {
	key := types.NamespacedName{Namespace: "ns", Name: "o"}
	kept := map[types.NamespacedName][]string{}
	state := JSONState[[]string]{
		Get:     func(o types.NamespacedName) ([]string, bool) { v, ok := kept[o]; return v, ok },
		Set:     func(o types.NamespacedName, v []string) { kept[o] = v },
		Delete:  func(o types.NamespacedName) { delete(kept, o) },
		Version: 2,
		Upgrade: func(version int, data []byte) ([]string, error) { // version 1 was a single string
			var one string
			if err := json.Unmarshal(data, &one); err != nil {
				return nil, fmt.Errorf("as version %d: %w", version, err)
			}
			return []string{one}, nil
		},
	}
	for i, test := range []struct {
		version int
		data    string
		refused bool
		want    string // what is exported after it; "" for nothing
	}{
		{2, `["a","b"]`, false, `["a","b"]`},
		{1, `"a"`, false, `["a"]`},
		{2, `"a"`, true, `["a"]`}, // and what it had stays
		{1, `["a"]`, true, `["a"]`},
		{2, ``, true, `["a"]`},
		{2, `null`, false, `null`},
	} {
		err := state.Import(context.Background(), key, State{Version: test.version, Data: []byte(test.data)})
		if terminal := errors.As(err, new(terminalError)); terminal != test.refused || terminal != (err != nil) {
			t.Errorf("state %d: error %v, refused should be %v", i, err, test.refused)
		}
		if got, err := state.Export(context.Background(), key); err != nil || string(got) != test.want {
			t.Errorf("state %d: exported %s, error %v, want %s", i, got, err, test.want)
		}
	}
	state.Forget(key)
	if got, err := state.Export(context.Background(), key); got != nil || err != nil {
		t.Errorf("after Forget: %s, error %v", got, err)
	}
	JSONState[int]{}.Forget(key) // without Delete there is nothing to do
}
