// Package manifest is the stored form of a tree: directories, lists of
// extents, snapshots and the history of a drive, as chunks that name other chunks,
// and the pure functions over them: Walk, Diff and Join. It reads and writes
// through a Source and a Sink and never touches a bucket, a key or a clock.
//
// # Nodes
//
// A directory, a file's list of extents and a history are sorted or ordered lists, cut by their
// content into leaf nodes under inner nodes. Equal lists are equal chunks, whatever was done
// to come there. The encoding is in docs/FORMAT.md.
//
// # Join
//
// Devices write at the same time and each joins what the others wrote. Join works on
// records: each write leaves a full record of its item, named by a Dot, in place of
// those that it saw. The rules, for which docs/adr/0005-join.md gives the reasons:
//
//  1. A record stays if both sides have it, or if one has it and the other has not seen its Dot.
//     There are no tombstones: what was seen and is missing was deleted.
//  2. An item is where its record with the greatest Place says. If that directory is
//     dead, it is shown in the directory of recovered entries.
//  3. Directories are put in place in the order of their Places. One that would come to lie below
//     itself goes to its From, or, if that is no better, to the root.
//  4. A file has a value for each Edit that no other record of it has in its Past. The value of the
//     greatest Edit keeps the name; the others are shown beside it, as conflicts.
//  5. Mode, owner and extended attributes of a value are those of the greatest Attr among
//     its records and those that it replaced; all else is of its own record.
//  6. Of the items that want one name in one directory, the one with the greatest
//     Place gets it; the others are shown with a suffix.
//
// The stored tree is what comes of this, the view. Where it differs from a record, the
// record is kept beside it (Stored, Hidden), so the next Join decides from all records anew,
// and an entry returns to its place when what kept it away is gone.
//
// # Duties of a writer
//
// Join converges over states of which each is the result of a Join or of a commit like this:
//
//  1. A changed or new entry gets a new Dot: the next counter of its device, never used before, also
//     not by a state that was lost. So does the entry of every directory above a change, where
//     the entry was and where it is now, and Snapshot.Top if something changed in the root.
//  2. A new record drops Hidden, and copies what did not change: Place, Attr, From, Stored,
//     Conflict, Held, Edit, Past. Place and Stored belong together: an entry that was
//     not moved must not be written with the place where it is shown.
//  3. Each state takes at least one new Dot, also if it only deletes, and its Context covers all
//     Dots and Edits that it used.
//  4. New bytes get a new Edit; Past is the old Edit and then the old Past, cut at MaxPast.
//     Other entries with the same ID, the siblings of a conflict, stay.
//  5. A move gets a Place with a Lamport greater than all that the state has seen, and no
//     Stored; a directory's From becomes the directory that it was shown in. A change of Mode,
//     owner or extended attributes by a user gets such an Attr. An entry with a
//     Conflict that is moved becomes an item of its own: a new ID, and no Conflict.
//  6. Before a directory is moved below one that was cut from a cycle (a directory above the target
//     whose Stored names another parent than it is shown in), that one is moved to
//     where it is shown, as in 5. Otherwise the next Join may undo the user's move.
//  7. A removed directory takes everything shown below it with it.
//  8. Node and Below of a directory's entry are what EditDir or BuildDir returned.
//  9. The entry of RecoveredID has no Dot and no other causality, is never renamed, and is
//     left out when the directory is empty. What is in it can be moved and removed.
//
// Names of a file with hard links are items of their own. Join has no other rule for
// them: after two devices wrote through two names at once, each name has the bytes
// that were written through it last, or both as a conflict.
package manifest
