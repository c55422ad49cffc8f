// Package posix holds a mounted drive against other people's suites for file systems: pjdfstest,
// fsx, go-fuse's posixtest, xfstests, LTP and stress-ng, and against programs that lean on a file
// system hard (PostgreSQL, sqlite, git); as root, and as a plain user through fusermount3. It
// is tests only, and no part of the product.
//
// The suites that no package registry has are other people's source, and neither they nor a way of
// building them is part of this repository. Each is looked for where a variable of the environment
// says:
//
//	PJDFSTEST=DIR  a built pjdfstest: DIR/pjdfstest and DIR/tests
//	FSX=PATH       the program fsx of xfstests (ltp/fsx)
//	XFSTESTS=DIR   built xfstests: DIR/check
//	LTP=DIR        an installed LTP: DIR/runtest/fs and DIR/testcases/bin
//
// Without it the test says so and is skipped; under "make posix" (SHEAF_POSIX=1) it fails.
//
// What is known to fail is in testdata, one line each with the reason; docs/POSIX.md shows it with
// the figures. A failure that is not there fails the test, and so does a line whose test passes.
package posix
