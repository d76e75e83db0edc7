// Package crd holds the CustomResourceDefinitions of the group shard.io, and installs or upgrades them.
//
// # Contract
//
//   - [YAML] and [Objects] return what this version of the module needs, whole, and the same at every call. The callers own what
//     they get.
//   - [Install] is idempotent and may run in several processes at once. It uses server-side apply under the field manager
//     [FieldManager] and takes over fields that others own, so it never ends in a conflict; a repeated run changes nothing.
//   - When Install returns nil, the definitions are established and the server answers requests for the resources.
//
// # What is not guaranteed
//
//   - After an upgrade the server may use the former schema for a moment (it reads its own definitions through a watch).
//   - Install does not go back: installing an older version over a newer one drops the fields that only the newer knows from
//     the schema.
//   - Nothing here removes a definition. Removing one removes all its objects.
package crd
