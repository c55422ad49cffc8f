package testkit

import (
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
)

// The ports that FreeAddr gives. They are below those which systems give to whoever asks for any port (Linux: from 32,768 on), and to connections.
const firstPort, endOfPorts = 10_000, 32_000

var given struct {
	mu    sync.Mutex
	ports map[int]bool
	locks []*os.File
}

// FreeAddr returns an address of this machine, host:port, at which nobody listens, for a program that cannot be asked where it listens, or that is to
// come back there after it died. None is given twice, as long as the process that asked for it runs. A port of those that the system gives would be somebody else's, sooner or later: whoever looks
// whether the program answers would meet another one, which dies with its own test.
func FreeAddr(t testing.TB) string {
	t.Helper()
	given.mu.Lock()
	defer given.mu.Unlock()
	if given.ports == nil {
		given.ports = map[int]bool{}
	}
	var err error
	for range 1000 {
		port := firstPort + rand.IntN(endOfPorts-firstPort)
		if given.ports[port] {
			continue
		}
		var l net.Listener
		if l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err != nil {
			continue
		}
		_ = l.Close() // nobody was heard
		if !claim(port) {
			continue
		}
		given.ports[port] = true
		return l.Addr().String()
	}
	t.Fatalf("no port is free from %d up to %d: %v", firstPort, endOfPorts, err)
	return ""
}
