// Package pebblestore keeps a ledger in one folder of the local disk, through
// github.com/cockroachdb/pebble. [Create] makes the folder, [Open] opens it;
// one process at a time holds it.
//
// An append is answered when an fsync has put it on disk, and no reader sees
// it before. Appends that arrive while an fsync runs are written behind it and
// share the next one; they are answered in the order of writing.
//
// When the disk refuses a write or an fsync, the store stops taking appends
// until it is opened again, and does not change another byte on disk. An fsync
// that failed can't be tried again: the kernel may have dropped the pages that
// it could not write and marked them clean, so that the second fsync succeeds
// and the bytes are gone. Only reading back what the disk really holds tells,
// and that is what opening does.
//
// A table that is found damaged has the same effect; the ledger is not opened
// again until all of it was read and found sound. [Store.Health] tells how far
// that has been looked for.
//
// Keys are written once and never changed:
//
//	'e' stream 0x00 0x01 revision   the event
//	'p' position                    stream and revision of the event there, or the length of a gap, see [Import]
//	'm' name                        what the folder is: see [Create]
//
// See README.md for the life of an event and the reasons.
package pebblestore
