// Package exerciser does random reads, writes, maps, truncations, range operations and
// copies on one file of a mounted folder, and compares the file with a slice of bytes
// after each. It is after the idea of fsx; it does not test names, attributes or crashes.
//
// It runs on Linux only. The folder must be served by another process, for the reason
// that package mounttest gives. The program in the folder exercise runs it from a shell.
package exerciser
