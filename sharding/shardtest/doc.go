// Package shardtest helps importers to test what they build on this module.
//
// [TestStrategy] holds a balancing strategy of one's own against the rules that the manager relies on.
//
// [TestState] holds the Exporter and Importer of an operator that keeps state per object against the rules that workers rely on.
//
// The package is for tests: it may grow in any version, and it may find faults in a later version that it did not find
// before.
package shardtest
