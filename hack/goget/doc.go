// Goget checks that what would be published of this repository is complete: it makes the zip of the module as a module proxy has
// it, serves it from a folder, and builds programs with it in an empty module outside the tree: those of the README and of the
// pages in docs, and one that imports every public package. The zip has what the packages embed, the licence, and no replace; and
// whoever uses client-go already gets few modules that he did not have.
//
//	go test .
package goget
