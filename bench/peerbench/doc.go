// Command peerbench compares two devices of one drive that exchange it directly with other programs that bring files from one
// machine to another: Syncthing over TCP, rsync over ssh, and croc.
//
//	make peerbench ROUNDS=3 SCALE=1
//	bin/peerbench -rounds 1 -scale 8 -rows 'first|front'
//
// Each system has a network namespace of its own, in which both its ends are: whatever goes over the loopback of it is counted. It needs
// root for that. README.md of bench says how to read what it prints. It runs on Linux only.
package main
