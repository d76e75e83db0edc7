package sharding

import (
	"encoding/json"
	"fmt"

	"github.com/cespare/xxhash/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// envelopeFormat is the version of the annotation itself, not of the state in it.
	envelopeFormat = 1
	// stateChunk is how many bytes of a state go into one Secret: the API server's limit for one.
	stateChunk = 1 << 20
	// annotationsLimit is the API server's limit for the keys and values of all annotations of an object.
	annotationsLimit = 256 << 10
	// annotationsReserve of that limit is left to others.
	annotationsReserve = 4 << 10
)

// envelope is the value of the state annotation: a state, or where to find it, and all that is needed to see that it is whole and
// belongs to the object that it is on.
//
// Epoch is the epoch of the object in which the state was written: one less than the object's when it has just been handed over, and the
// object's own when it is a checkpoint of the owner. So whether the owner has taken a state over can be seen on the object.
type envelope struct {
	Format   int       `json:"v"`
	UID      types.UID `json:"uid"`
	Epoch    int64     `json:"epoch"`
	Sequence int64     `json:"seq"`
	From     string    `json:"from"`
	Version  int       `json:"version"`
	Size     int       `json:"size"`
	Sum      string    `json:"sum"` // xxhash64 of the state, 16 hexadecimal digits
	Data     []byte    `json:"data,omitempty"`
	Secret   string    `json:"secret,omitempty"` // instead of Data: the Secrets are called like this, with "-0", "-1", … added
	Chunks   int       `json:"chunks,omitempty"`
}

// stateReason says why a state can't be used, or not be made.
type stateReason string

const (
	reasonMalformed    stateReason = "Malformed"
	reasonOtherObject  stateReason = "OtherObject"
	reasonNewerVersion stateReason = "NewerVersion"
	reasonTruncated    stateReason = "Truncated"
	reasonChecksum     stateReason = "Checksum"
	reasonSecret       stateReason = "SecretMissing"
	reasonNoImporter   stateReason = "NoImporter"
	reasonImport       stateReason = "ImportFailed"
	reasonExport       stateReason = "ExportFailed"
	reasonTooLarge     stateReason = "TooLarge"
)

// stateError is why a state can't be used, or not be made. Trying again does not help.
type stateError struct {
	reason stateReason
	err    error
}

func (e *stateError) Error() string { return e.err.Error() }
func (e *stateError) Unwrap() error { return e.err }

func badState(reason stateReason, format string, args ...any) *stateError {
	return &stateError{reason, fmt.Errorf(format, args...)}
}

func checksum(data []byte) string { return fmt.Sprintf("%016x", xxhash.Sum64(data)) }

// seal makes an envelope with the data inside.
func seal(s State) *envelope {
	return &envelope{
		Format: envelopeFormat, UID: s.UID, Epoch: s.Epoch, Sequence: s.Sequence, From: s.From, Version: s.Version,
		Size: len(s.Data), Sum: checksum(s.Data), Data: s.Data,
	}
}

// inSecrets is the envelope for data that is in Secrets of that name.
func (e envelope) inSecrets(name string) *envelope {
	e.Data, e.Secret, e.Chunks = nil, name, chunksOf(e.Size)
	return &e
}

// chunksOf returns in how many parts a state of that size is stored.
func chunksOf(size int) int { return (size + stateChunk - 1) / stateChunk }

// chunk returns one of the parts of data.
func chunk(data []byte, i int) []byte { return data[i*stateChunk : min((i+1)*stateChunk, len(data))] }

func (e *envelope) String() string {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings, numbers and bytes always marshal
	}
	return string(text)
}

// parseEnvelope reads a state annotation. What it returns is consistent in itself; open looks at the data.
func parseEnvelope(text string) (*envelope, error) {
	e := &envelope{}
	if err := json.Unmarshal([]byte(text), e); err != nil {
		return nil, badState(reasonMalformed, "the state is not of the form that a worker writes: %w", err)
	}
	switch {
	case e.Format > envelopeFormat:
		return nil, badState(reasonNewerVersion, "the state has format %d, this worker knows %d", e.Format, envelopeFormat)
	case e.Format < 1 || e.UID == "" || e.Epoch < 0 || e.Sequence < 1 || e.Version < 1 || e.Size < 0:
		return nil, badState(reasonMalformed, "the state has no valid v, uid, epoch, seq, version or size")
	case e.Size > MaxState:
		return nil, badState(reasonTooLarge, "the state has %d bytes, the most is %d", e.Size, MaxState)
	case e.Secret == "" && e.Chunks != 0, e.Secret != "" && (e.Chunks != chunksOf(e.Size) || len(e.Data) != 0):
		return nil, badState(reasonMalformed, "the state of %d bytes is in %d Secrets %q and has %d bytes inside", e.Size, e.Chunks, e.Secret, len(e.Data))
	}
	return e, nil
}

// belongs says whether the state is of the object, and of no version that this worker does not know.
func (e *envelope) belongs(uid types.UID, epoch int64, version int) error {
	switch {
	case e.UID != uid:
		return badState(reasonOtherObject, "the state is of the object with UID %s, this one has %s", e.UID, uid)
	case e.Epoch > epoch:
		return badState(reasonOtherObject, "the state is of epoch %d, the object has only come to %d", e.Epoch, epoch)
	case e.Version > version:
		return badState(reasonNewerVersion, "the state is of version %d, this worker knows up to %d", e.Version, version)
	}
	return nil
}

// open returns the state, given its data, if that is what was put in.
func (e *envelope) open(data []byte) (State, error) {
	if len(data) != e.Size {
		return State{}, badState(reasonTruncated, "the state has %d bytes, it had %d", len(data), e.Size)
	}
	if sum := checksum(data); sum != e.Sum && !planted("trust-checksum") {
		return State{}, badState(reasonChecksum, "the checksum of the state is %s, it was %s", sum, e.Sum)
	}
	if data == nil {
		data = []byte{}
	}
	return State{UID: e.UID, Epoch: e.Epoch, Sequence: e.Sequence, From: e.From, Version: e.Version, Data: data}, nil
}

// secretName is the name for the Secrets with a state: the same for the same state, and no other's.
func (e *envelope) secretName(ring string) string {
	return fmt.Sprintf("state-%s-%016x-%d-%d-%s", ring, xxhash.Sum64String(string(e.UID)), e.Epoch, e.Sequence, e.Sum)
}

// chunkName is the name of one of the Secrets.
func chunkName(name string, i int) string { return fmt.Sprintf("%s-%d", name, i) }

// stateOf reads the state that is on a root; nil if there is none.
func stateOf(root metav1.Object, ring string) (*envelope, error) {
	text, ok := root.GetAnnotations()[StateAnnotation(ring)]
	if !ok {
		return nil, nil
	}
	return parseEnvelope(text)
}

// statePending reports whether there is a state on a root that its owner has not taken over yet. What can't be read has not been.
func statePending(root metav1.Object, ring string) bool {
	e, err := stateOf(root, ring)
	return err != nil || e != nil && e.Epoch != EpochOf(root, ring)
}

// fits reports whether the root's annotations would still be within the API server's limit if this one were set.
func fits(root metav1.Object, key, value string) bool {
	size := annotationsReserve + len(key) + len(value)
	for k, v := range root.GetAnnotations() {
		if k != key {
			size += len(k) + len(v)
		}
	}
	return size <= annotationsLimit
}
