package ring

import "github.com/cespare/xxhash/v2"

// Hash returns the position of key on the ring: xxhash64 with seed 0. It does not allocate.
func Hash(key string) uint64 { return xxhash.Sum64String(key) }

// onStack is the length up to which Prefix.Hash joins the key in a buffer on the stack; longer keys are streamed. Group,
// kind, namespace and name rarely exceed it together; 128 bytes are two cache lines.
const onStack = 128

// Prefix is the part of a key that all objects of a kind share. It makes the hash of an object from its namespace and
// name without building the key. The zero Prefix is that of the empty group and the empty kind.
type Prefix struct {
	text string
	// buffer starts with text if that fits. Each call of Hash has a copy of it to put the rest of the key into: to copy a
	// fixed size costs less than to clear a buffer and to copy the text.
	buffer [onStack]byte
}

// NewPrefix returns the prefix of the keys of a kind. The group of core kinds (Secret, Pod) is empty.
func NewPrefix(group, kind string) Prefix {
	p := Prefix{text: group + "/" + kind + "/"}
	copy(p.buffer[:], p.text)
	return p
}

// Key returns "group/kind/namespace/name", the key of an object. The namespace of a cluster-scoped object is empty:
// "group/kind//name".
func (p Prefix) Key(namespace, name string) string {
	if p.text == "" {
		p = NewPrefix("", "")
	}
	return p.text + namespace + "/" + name
}

// Hash returns [Hash] of p.Key(namespace, name) without building that string. It does not allocate.
func (p Prefix) Hash(namespace, name string) uint64 {
	n := len(p.text)
	end := n + len(namespace) + 1 + len(name)
	if end > onStack || n == 0 {
		return p.hashLong(namespace, name)
	}
	n += copy(p.buffer[n:], namespace)
	p.buffer[n&(onStack-1)] = '/' // the mask saves a bounds check
	copy(p.buffer[(n+1)&(onStack-1):], name)
	return xxhash.Sum64(p.buffer[:end])
}

//go:noinline
func (p *Prefix) hashLong(namespace, name string) uint64 {
	text := p.text
	if text == "" {
		text = "//"
	}
	var d xxhash.Digest
	d.Reset()
	// Writing to a Digest cannot fail; its documentation says so.
	_, _ = d.WriteString(text)
	_, _ = d.WriteString(namespace)
	_, _ = d.WriteString("/")
	_, _ = d.WriteString(name)
	return d.Sum64()
}
