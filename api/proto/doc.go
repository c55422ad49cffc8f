// Package proto holds the contract of sheaf as Protocol Buffers (sheaf/v1) and
// the check that the generated code in sheafv1 is of these sources. It holds no
// code that a program imports.
package proto
