// Package fence makes the API server refuse the writes of everybody but the owner to the objects of a ring.
package fence
