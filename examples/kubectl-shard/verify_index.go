package main

import (
	"github.com/cespare/xxhash/v2"
	"k8s.io/apimachinery/pkg/types"
)

// part is a part of the roots: those whose hash leaves a rest when it is divided.
type part struct{ divisor, rest uint64 }

func (p part) has(hash uint64) bool { return hash%p.divisor == p.rest }

// rootIndex knows the owners of some roots, by the hashes of their UIDs.
type rootIndex struct {
	part
	most    int
	owners  map[uint64]string
	divided []part // what does not fit
}

func hashOf(uid types.UID) uint64 { return xxhash.Sum64String(string(uid)) }

func (x *rootIndex) add(uid types.UID, owner string) {
	hash := hashOf(uid)
	if !x.has(hash) {
		return
	}
	x.owners[hash] = owner
	for len(x.owners) > x.most {
		x.divided = append(x.divided, part{2 * x.divisor, x.rest + x.divisor})
		x.divisor *= 2
		for hash := range x.owners {
			if !x.has(hash) {
				delete(x.owners, hash)
			}
		}
	}
}
