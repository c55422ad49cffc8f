// Package proto holds the contract of sheaf as Protocol Buffers (sheaf/v1), for those who want its comments too, and
// the check that the generated code in sheafv1 is of these sources. The two files of google/api declare the option that says by which
// HTTP request a method is called.
package proto

import "embed"

// Sources are the files of sheaf/v1.
//
//go:embed sheaf/v1/*.proto
var Sources embed.FS
