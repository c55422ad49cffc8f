// Command scalebench measures what a drive costs that has ten thousand, a hundred thousand and a million small
// files, in one run: what is to cost as much as its change, and not as the drive (open, mount, commit, list,
// history, diff), and what goes through all of it in bounded memory (find, gc, verify).
//
//	make scalebench SCALE=1
//	bin/scalebench -scale 100
//
// It reads back what it changed, and verify finds the rest. README.md of bench says how to read what it
// prints. It runs on Linux only.
package main
