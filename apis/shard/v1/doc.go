// Package v1 holds the API types of the group shard.io: ShardConfig, which describes a ring; ShardInstance, which is one
// shard of it; and ShardMigration, which moves objects from one shard to another.
//
// # Contract
//
//   - Objects that satisfy the published CustomResourceDefinitions (package apis/crd) decode into these types without loss and
//     without error, in JSON and in CBOR, through the typed, the dynamic and the apply client.
//   - Values that a user wrote are never changed by defaulting. Defaults fill only what is absent; [ShardConfig.SetDefaults] does in
//     process what the API server does on its side, and the two are tested against each other.
//   - Fields are only ever added to v1. Nothing is renamed, and no bound becomes tighter.
//   - [PhaseOf] and all methods here are pure and safe for concurrent use.
//
// # What is not guaranteed
//
//   - Decoding does not validate, with one exception: a [Ratio] must be a finite number within its bounds. Bounds, patterns and
//     rules between fields are checked by the API server.
//   - Strings are kept, but not always letter by letter: a duration "1m" is written back as "1m0s", and a quantity "0.2" as
//     "200m". They are equal as values.
//   - Label selectors are checked by the controller, not by the server: a selector that does not parse is reported by the
//     condition Stalled.
//   - status.phase is for people. Programs look at conditions.
//
// +k8s:deepcopy-gen=package
// +k8s:openapi-gen=true
// +groupName=shard.io
package v1
