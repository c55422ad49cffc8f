//go:build !linux && !darwin

package home

import "net"

// peer knows nothing here: the rights of the socket's folder have to do.
func peer(net.Conn) (uid int, known bool) { return 0, false }
