// Package merge decides what has to be done so that two places of plain files are alike again. It does nothing itself: it has no
// clock, opens no file and knows no place; out of three trees it makes a list of steps, the same list for the same trees.
//
// # Three trees
//
// The base is what both sides were last known to agree on: pairs of items, one as the left side had it, one as the right side. Left and right are
// what the sides show now. Nobody's clock decides anything but a name: a side has changed a thing if it shows another version of it than the base has.
//
//  1. Gather: the three trees are read side by side, in the order of [Names.Key]. What is the same in all is passed over. All that
//     follows works on what differs, and on the directories above that.
//  2. Match: which item of a side is which of the base: by its ID, else by its path, else by the hash of its content; a directory also
//     by what has moved out of it and where to. So a move is a move, and no delete.
//  3. Decide: for each thing, whether it is to be, where, and with which content; for each of the three a change of one side
//     wins over no change of the other. A change wins over a delete. Two contents are both kept: one takes a name that tells of the conflict.
//     Of two moves, one wins; moves that would make a circle are taken back. Names that one place cannot have, or cannot
//     tell from another, get others there ([Names]).
//  4. Emit: what makes each side into that: moves and directories from the top, then contents, then deletes from the bottom. Each step says what it
//     takes for granted (the version that is known, the steps that must be done before), and who carries it out checks that at the last moment. A step
//     that finds something else does nothing, and neither do those that need it; the next plan sees what is there then.
//
// # What is never derived
//
// No delete and no move follows from a tree that was not seen whole ([Input].Incomplete). What a filter leaves out ([Item].Out) is there and is not
// looked at: it is never deleted, never overwritten, and when the filter goes it is as new. Deletes of more than a part of
// all files are a question to a person ([Brake]).
//
// # Cost
//
// Reading the three trees once, and the base once more if something differs. The memory is some 3 KiB for each item that
// differs until the steps are made, and some 600 bytes from then on, whatever the trees have: a directory of n items that was moved is n items that differ. Where nothing differs but what
// is new, as when a place is filled, a plan may be of a part of that ([Input].Most): all is read, and no more than the part is kept.
//
// Only what is new may be planned for in parts. What came elsewhere may be what went here, how much goes is a question of the whole, and where names fold, what is in the way of one may
// be anywhere.
package merge
