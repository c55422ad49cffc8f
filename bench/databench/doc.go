// Command databench compares getting data into a drive and out of it, by sheaf cp, with the
// backup programs restic, kopia and borg, in one run on one disk: a big file, a tree, the same again
// unchanged, the file with a MiB put in front, and all of it back.
//
//	make databench ROUNDS=5 SCALE=1
//	bin/databench -rounds 1 -scale 16
//
// What comes back is compared with what went in, byte for byte, in the first round. README.md of bench says how
// to read what it prints. It runs on Linux only.
package main
