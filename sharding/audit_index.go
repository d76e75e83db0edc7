package sharding

import (
	"slices"
	"sort"
)

// rootIndex knows the owners of the roots of a pass, so that children can be compared with them: 8 bytes for each root.
type rootIndex struct {
	entries []uint64 // 48 bits of the hash of the UID, 16 bits of the owner's number
	numbers map[string]uint16
	owners  []string
	sorted  bool
}

// maxRootsIndexed bounds the index to 2 MiB. The children of more roots are looked at in parts.
const maxRootsIndexed = 1 << 18

const (
	ownerBits = 16
	maxOwners = 1<<ownerBits - 2
)

func newRootIndex() *rootIndex { return &rootIndex{numbers: map[string]uint16{}} }

// add notes the owner of a root that children are to be compared with.
func (x *rootIndex) add(root element, owner string) {
	number, known := x.numbers[owner]
	if !known {
		if len(x.owners) >= maxOwners {
			return // its children can't be judged
		}
		number = uint16(len(x.owners))
		x.numbers[owner] = number
		x.owners = append(x.owners, owner)
	}
	x.entries = append(x.entries, uint64(root)>>ownerBits<<ownerBits|uint64(number))
	x.sorted = false
}

// owner returns the owner of a root; false if it was not added.
func (x *rootIndex) owner(root element) (string, bool) {
	if !x.sorted {
		slices.Sort(x.entries)
		x.sorted = true
	}
	from := uint64(root) >> ownerBits << ownerBits
	i := sort.Search(len(x.entries), func(i int) bool { return x.entries[i] >= from })
	if i == len(x.entries) || x.entries[i]>>ownerBits != from>>ownerBits {
		return "", false
	}
	return x.owners[x.entries[i]&(1<<ownerBits-1)], true
}

func (x *rootIndex) size() int { return len(x.entries) }
