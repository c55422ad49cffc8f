// Command mountbench compares the mounted drive with gocryptfs, with the plain file
// system below both, and with an empty FUSE file system, in one run on one disk. It
// judges speed and memory; what is right is proven by bench/proof, though it does
// compare what it reads with what it wrote.
//
//	make bench ROUNDS=5 SCALE=1
//	bin/mountbench -rounds 1 -scale 16
//
// README.md says how to read what it prints. It runs on Linux only.
package main
