// Package churn holds that a drive which works for hours needs no more of anything than it did at
// first: memory, handles, goroutines, journal, store. It is tests only, and no part of the product.
//
// Workers of a test change a tree on a mount without a pause and know what must be in it; the drive is served by a process
// of its own, which is measured meanwhile. Number and sizes of the files stay what they are, so whatever grows is a leak.
//
// What is measured is what is needed: after each collection all stands still for a moment, what was done is committed, the history is gone, whose
// size depends on how often a busy machine commits, and the kernel has forgotten all files, how many of which it knows depends on who else is
// there. A growth is told from noise by the slope of Theil and Sen and its limits, and is held against a bound by the hour.
package churn
