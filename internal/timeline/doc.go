// Package timeline records what happens to the owner labels of the objects of a
// ring, and judges it. It is a witness for tests and measurements: it knows what
// the API server has accepted, in the order in which that was accepted, and
// nothing else.
//
// Roots and children arrive in different watches, but their resourceVersions
// come from one counter, that of etcd. So the two can be put in one order, and
// it can be said where the child of a root was at the very moment at which the
// root changed its owner.
package timeline
