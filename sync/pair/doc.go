// Package pair keeps two places of plain files alike by a rule. It looks at both, has package merge plan, and carries the plan out; it decides
// nothing by itself. It is not for replicas of a drive, which package engine keeps.
//
// # What is remembered
//
// For each side a shadow: what it was last seen to have. And the base: pairs of items that both sides agreed on. Both lie in a [kv.DB]. If they are
// lost, or older than they should be, the two places are joined as if they met for the first time: nothing is deleted, and what differs is kept twice.
//
// # A turn
//
//  1. Look: each side is listed, or tells what changed since its cursor. What a listing lacks counts as gone only if the listing came to
//     its end and the side, asked for that very path, says so too. What this package has put there itself and nobody has
//     seen there since was lost on the way: it is put again, and not taken for deleted.
//  2. Plan: from base and shadows. A plan that deletes too much is not carried out, see [ErrBraked].
//  3. Do: steps that need no other go side by side. Each is written to the journal first. It is done only if the thing still has the version that the plan
//     knows; old bytes go to the history of that side before anything is replaced or removed; the bytes are hashed as they pass, and the place's own word on
//     what it got is compared with that. Shadow, base and journal change in one transaction, after the step.
//  4. Again, while steps found something else than was planned, eight times at most: the rest is for the next turn.
//
// A crash anywhere leaves steps in the journal. The next turn asks both sides for their paths, and sees what was done as it is.
//
// # What is left out
//
// Files called .sheafignore say what is left out, with the syntax of package ignore, for the folder that they are in and below, on whichever side they are: what the lines of
// one side leave out is left out on both. They are files like others, and go over like others. What is left out has no pair: it is neither deleted nor
// replaced, on neither side, and when the line goes it is as new on both. If an ignore file cannot be read, nothing is done ([ErrIgnore]).
//
// # Cost
//
// A look in full holds some 20 bytes for each thing that a side has, and what is missing there; a plan holds what differs, see package merge. Where
// nothing differs but what is new, 32,768 of that are planned and brought over, then the next, all in one turn: a million files that go to an empty place are never all in a plan.
// What was decided is kept for
// each path that a step was of, five at most, until the rule is removed.
//
// # History
//
// A file that a step replaces or removes is moved or copied to [HistoryDir] on its own side, under the time of the turn, and stays 30 days. No plan sees that folder.
package pair
