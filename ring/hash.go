package ring

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// Hash returns the position of key on the ring: xxhash64 with seed 0. It does not allocate.
func Hash(key string) uint64 { return xxhash.Sum64String(key) }

// Prefix is the part of a key that all objects of a kind share. It makes the hash of an object from its namespace and
// name without building the key. The zero Prefix is that of the empty group and the empty kind. A Prefix is small, is
// passed by value, and may be used from any goroutine.
type Prefix struct {
	prepared *prepared // nil: of the empty group and kind
}

// prepared is the text of a prefix in words of 8 bytes.
type prepared struct {
	text    string
	words   [4]uint64 // of a text that is longer, only the first
	pending uint64    // bytes that are not a whole word
	have    uint      // how many bits that is
}

// slashes is the prefix of the empty group and the empty kind.
var slashes = prepare("//")

func prepare(text string) *prepared {
	p := &prepared{text: text}
	for i := range p.words {
		if len(text) < 8 {
			break
		}
		p.words[i], text = load64(text), text[8:]
	}
	if 0 < len(text) && len(text) < 8 {
		p.pending, p.have = loadRest(text), uint(len(text))*8
	}
	return p
}

// maxWords is the length in words of 8 bytes up to which Prefix.Hash has the key on its stack.
const maxWords = 16

// NewPrefix returns the prefix of the keys of a kind. The group of core kinds (Secret, Pod) is empty.
func NewPrefix(group, kind string) Prefix { return Prefix{prepare(group + "/" + kind + "/")} }

// Key returns "group/kind/namespace/name", the key of an object. The namespace of a cluster-scoped object is empty:
// "group/kind//name".
func (p Prefix) Key(namespace, name string) string { return p.get().text + namespace + "/" + name }

func (p Prefix) get() *prepared {
	if p.prepared == nil {
		return slashes
	}
	return p.prepared
}

// Hash returns [Hash] of p.Key(namespace, name) without building that string. It does not allocate.
//
// It is xxhash64 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md) on a key in pieces: they are put
// together in words of 8 bytes. To copy them into a buffer byte by byte would take longer than the hash itself, because it
// would read words across writes that have just been made.
func (p Prefix) Hash(namespace, name string) uint64 {
	from := p.get()
	size := len(from.text) + len(namespace) + 1 + len(name)
	if size >= 8*maxWords || len(from.text) >= 8*(len(from.words)+1) {
		return from.stream(namespace, name)
	}
	var words [maxWords]uint64
	*(*[4]uint64)(words[:]) = from.words
	n, pending, have := len(from.text)/8, from.pending, from.have
	for ; len(namespace) >= 8; namespace = namespace[8:] {
		next := load64(namespace)
		words[n&(maxWords-1)] = pending | next<<(have&63)
		pending = next >> 1 >> ((63 - have) & 63)
		n++
	}
	next, width := uint64('/'), uint(8)
	if len(namespace) > 0 { // at most 7 bytes: there is room for the slash
		width = uint(len(namespace)) * 8
		next = loadRest(namespace) | '/'<<(width&63)
		width += 8
	}
	pending |= next << (have & 63)
	if have += width; have >= 64 {
		words[n&(maxWords-1)] = pending
		n++
		have -= 64
		pending = next >> 1 >> ((width - have - 1) & 63)
	}
	for ; len(name) >= 8; name = name[8:] {
		next := load64(name)
		words[n&(maxWords-1)] = pending | next<<(have&63)
		pending = next >> 1 >> ((63 - have) & 63)
		n++
	}
	if len(name) > 0 {
		next, width := loadRest(name), uint(len(name))*8
		pending |= next << (have & 63)
		if have += width; have >= 64 {
			words[n&(maxWords-1)] = pending
			n++
			have -= 64
			pending = next >> 1 >> ((width - have - 1) & 63)
		}
	}
	h, i := prime5+uint64(size), 0
	if n >= 4 {
		var prime = prime1 // a variable, as constants must not overflow
		v1, v2, v3, v4 := prime+prime2, prime2, uint64(0), -prime
		for ; i+4 <= n; i += 4 {
			w := (*[4]uint64)(words[i&(maxWords-4):])
			v1, v2, v3, v4 = round(v1, w[0]), round(v2, w[1]), round(v3, w[2]), round(v4, w[3])
		}
		h = merge(v1, v2, v3, v4) + uint64(size)
	}
	for ; i < n; i++ {
		h = tail(h, words[i&(maxWords-1)])
	}
	return finish(h, pending, have)
}

// The primes of xxhash64.
const (
	prime1 uint64 = 11400714785074694791
	prime2 uint64 = 14029467366897019727
	prime3 uint64 = 1609587929392839161
	prime4 uint64 = 9650029242287828579
	prime5 uint64 = 2870177450012600261
)

func round(lane, word uint64) uint64 { return bits.RotateLeft64(lane+word*prime2, 31) * prime1 }

func tail(h, word uint64) uint64 {
	return bits.RotateLeft64(h^round(0, word), 27)*prime1 + prime4
}

func merge(v1, v2, v3, v4 uint64) uint64 {
	h := bits.RotateLeft64(v1, 1) + bits.RotateLeft64(v2, 7) + bits.RotateLeft64(v3, 12) + bits.RotateLeft64(v4, 18)
	h = (h^round(0, v1))*prime1 + prime4
	h = (h^round(0, v2))*prime1 + prime4
	h = (h^round(0, v3))*prime1 + prime4
	return (h^round(0, v4))*prime1 + prime4
}

// finish adds the last bytes, which are fewer than a word, and mixes.
func finish(h, pending uint64, width uint) uint64 {
	if width >= 32 {
		h = bits.RotateLeft64(h^(pending&0xffffffff)*prime1, 23)*prime2 + prime3
		pending >>= 32
		width -= 32
	}
	for ; width > 0; width -= 8 {
		h = bits.RotateLeft64(h^(pending&0xff)*prime5, 11) * prime1
		pending >>= 8
	}
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}

// stream is Hash for whatever does not fit it.
func (p *prepared) stream(namespace, name string) uint64 {
	var d xxhash.Digest
	d.Reset()
	// Writing to a Digest cannot fail; its documentation says so.
	_, _ = d.WriteString(p.text)
	_, _ = d.WriteString(namespace)
	_, _ = d.WriteString("/")
	_, _ = d.WriteString(name)
	return d.Sum64()
}

func load64(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func load32(s string) uint64 {
	_ = s[3]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24
}

// loadRest loads 1 to 7 bytes, in loads that overlap.
func loadRest(s string) uint64 {
	n := len(s)
	if n >= 4 {
		return load32(s) | load32(s[n-4:])<<(uint(n-4)*8&63)
	}
	return uint64(s[0]) | uint64(s[n/2])<<(uint(n/2)*8&63) | uint64(s[n-1])<<(uint(n-1)*8&63)
}
