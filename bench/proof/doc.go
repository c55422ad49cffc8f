// Package proof holds what a mounted drive promises against other people's programs: the
// suites of mount on a real drive, git, go, sqlite and rsync at work in it, and the death
// of the process under load. It is tests only, and no part of the product.
package proof
