// Command rulebench compares a rule of sheaf, which keeps two places of plain files alike, with other programs that do: rclone sync, rclone bisync and
// unison.
//
//	make rulebench ROUNDS=3 SCALE=10
//	bin/rulebench -rounds 1 -scale 100 -rows 'small, local'
//
// Each program keeps folders of its own alike: two on this machine, one here and one behind OpenSSH, and two behind WebDAV. What goes to a server
// goes through a proxy of this program, which counts it and holds it back. README.md of bench says how to read what it prints. It runs on Linux only.
package main
