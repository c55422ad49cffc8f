package errno

import "syscall"

// noXattr is what a missing extended attribute is called here.
const noXattr = syscall.ENOATTR
