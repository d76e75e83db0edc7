package ring

import "github.com/cespare/xxhash/v2"

// Hash returns the position of key on the ring: xxhash64 with seed 0. It does not allocate.
func Hash(key string) uint64 { return xxhash.Sum64String(key) }

// Prefix is the part of a key that all objects of a kind share. It makes the hash of an object from its namespace and
// name without building the key. The zero Prefix is that of the empty group and the empty kind.
type Prefix struct {
	text string
}

// NewPrefix returns the prefix of the keys of a kind. The group of core kinds (Secret, Pod) is empty.
func NewPrefix(group, kind string) Prefix { return Prefix{text: group + "/" + kind + "/"} }

// Key returns "group/kind/namespace/name", the key of an object. The namespace of a cluster-scoped object is empty:
// "group/kind//name".
func (p Prefix) Key(namespace, name string) string {
	return p.prefix() + namespace + "/" + name
}

func (p Prefix) prefix() string {
	if p.text == "" {
		return "//"
	}
	return p.text
}

// onStack is the length up to which Prefix.Hash joins the key in a buffer on the stack; longer keys are streamed. Group,
// kind, namespace and name rarely exceed it together; 128 bytes are two cache lines.
const onStack = 128

// Hash returns [Hash] of p.Key(namespace, name) without building that string. It does not allocate.
func (p Prefix) Hash(namespace, name string) uint64 {
	text := p.prefix()
	if len(text)+len(namespace)+len(name)+1 > onStack {
		return hashLong(text, namespace, name)
	}
	var buffer [onStack]byte
	n := copy(buffer[:], text)
	n += copy(buffer[n:], namespace)
	buffer[n] = '/'
	n++
	n += copy(buffer[n:], name)
	return xxhash.Sum64(buffer[:n])
}

//go:noinline
func hashLong(text, namespace, name string) uint64 {
	var d xxhash.Digest
	d.Reset()
	// Writing to a Digest cannot fail; its documentation says so.
	_, _ = d.WriteString(text)
	_, _ = d.WriteString(namespace)
	_, _ = d.WriteString("/")
	_, _ = d.WriteString(name)
	return d.Sum64()
}
