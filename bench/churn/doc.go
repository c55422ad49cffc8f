// Package churn holds that a drive which works for hours needs no more of anything than it did at
// first: memory, handles, goroutines, journal, store. It is tests only, and no part of the product.
//
// Workers of a test change a tree on a mount without a pause and know what must be in it; the drive is served by a process
// of its own, which is measured meanwhile. Number and sizes of the files stay what they are, so whatever grows is a leak.
package churn
