package find_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/find"
	"github.com/sheaf-drive/sheaf/sync/find/meeting"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
)

// The test program is run once more in network namespaces: as a server, or as a device.
const roleVar = "SHEAF_FIND_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVar); role {
	case "":
		os.Exit(m.Run())
	case "server":
		runServer()
	default:
		runDevice(role)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	return v
}

func runServer() {
	c := must(meeting.OwnCertificate(filepath.Join(os.Getenv("DIR"), "rendezvous.pem")))
	h := must(meeting.Listen(context.Background(), os.Getenv("LISTEN"), meeting.Options{Certificate: c, PerAddress: 1000}))
	s := meeting.Server{Addr: h.Addr().String(), Pin: must(meeting.PinOf(c))}
	fmt.Println("at", s)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends
	_ = h.Close()
}

// signerOf is the key of a device of the test.
func signerOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("device of the test " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func keyOf(name string) peer.Key { return peer.Key(signerOf(name).Public().(ed25519.PublicKey)) }

// runDevice is device "a" or "b" of one drive. It says each change of how the other one is reached, and puts the canary there.
func runDevice(name string) {
	other := map[string]string{"a": "b", "b": "a"}[name]
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("device", name)
	var f *find.Finder
	ready := make(chan struct{})
	shelf := mem.New()
	node := must(peer.New(peer.Options{
		Signer: signerOf(name), Takes: true, Bucket: shelf, Log: log,
		Admit: func(_ context.Context, k peer.Key) (peer.Grant, error) {
			if k != keyOf(other) {
				return peer.Grant{}, peer.ErrStranger
			}
			return peer.Grant{Read: true, Write: true}, nil
		},
		Packet: func(p []byte, from netip.AddrPort) {
			<-ready
			f.Packet(p, from)
		},
	}))
	must(node.Listen(context.Background(), "0.0.0.0:7434"))
	var servers []meeting.Server
	for _, text := range strings.Fields(os.Getenv("SERVERS")) {
		servers = append(servers, must(meeting.ParseServer(text)))
	}
	f = find.New(find.Options{
		Self: keyOf(name), Secrets: func() []find.Secret { return []find.Secret{{7, 7, 7}} }, Members: func() []peer.Key { return []peer.Key{keyOf(other)} },
		Addrs: func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(os.Getenv("ADDR") + ":7434")} }, Found: func(peer.Key, bool) {}, NoLAN: true,
		Servers: servers, Node: node, Log: log,
	})
	close(ready)
	go func() {
		last, put := "", false
		for range time.Tick(50 * time.Millisecond) {
			by := "none"
			for _, m := range node.Sessions() {
				by = m.By + " " + m.At
			}
			if !put && by != "none" && os.Getenv("CANARY") != "" {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				body := bytes.Repeat([]byte(os.Getenv("CANARY")), 60_000) // 2 MB
				err := node.Bucket(keyOf(other), nil).Put(ctx, blob.Name("a/"+name), bytes.NewReader(body), int64(len(body)))
				cancel()
				fmt.Println("put", err)
				put = err == nil
			}
			if by != last {
				fmt.Println("by", by)
				last = by
			}
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = f.Close()
	_ = node.Close()
}

// proc is a role that runs in a namespace.
type proc struct {
	cmd   *exec.Cmd
	in    io.Closer
	mu    sync.Mutex
	lines []string
	more  chan struct{}
}

func (p *proc) wait(t *testing.T, d time.Duration, ok func(line string) bool) string {
	t.Helper()
	end := time.After(d)
	for i := 0; ; {
		p.mu.Lock()
		lines := p.lines[i:]
		p.mu.Unlock()
		for _, l := range lines {
			if ok(l) {
				return l
			}
		}
		i += len(lines)
		select {
		case <-p.more:
		case <-time.After(50 * time.Millisecond):
		case <-end:
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("what it said: %q", p.lines)
			return ""
		}
	}
}

// nets is a made-up Internet: a switch, servers on it, and two devices behind routers.
type nets struct {
	t    *testing.T
	name string
	dir  string
}

func (n *nets) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.CommandContext(n.t.Context(), "ip", args...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (n *nets) add(x string) string {
	n.t.Helper()
	ns := n.name + x
	n.ip("netns", "add", ns)
	n.t.Cleanup(func() { _ = exec.CommandContext(context.WithoutCancel(n.t.Context()), "ip", "netns", "del", ns).Run() })
	n.ip("-n", ns, "link", "set", "lo", "up")
	return ns
}

// join puts a namespace onto the switch with an address.
func (n *nets) join(ns, port, addr string) {
	n.t.Helper()
	n.ip("-n", ns, "link", "add", "out", "type", "veth", "peer", "name", port, "netns", n.name+"w")
	n.ip("-n", n.name+"w", "link", "set", port, "master", "br0", "up")
	n.ip("-n", ns, "addr", "add", addr, "dev", "out")
	n.ip("-n", ns, "link", "set", "out", "up")
}

func (n *nets) run(ns string, script string) {
	n.t.Helper()
	cmd := exec.CommandContext(n.t.Context(), "ip", "netns", "exec", ns, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("nft in %s: %v: %s\n%s", ns, err, out, script)
	}
}

func (n *nets) start(ns, role string, env ...string) *proc {
	n.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(n.t.Context()), "ip", "netns", "exec", ns, os.Args[0])
	cmd.Env = append(append(os.Environ(), roleVar+"="+role), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	p := &proc{cmd: cmd, in: in, more: make(chan struct{}, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, sc.Text())
			p.mu.Unlock()
			select {
			case p.more <- struct{}{}:
			default:
			}
		}
	}()
	n.t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
		if n.t.Failed() {
			n.t.Logf("%s of %s: %s", role, ns, said.String())
		}
	})
	return p
}

// The kinds of NAT, as RFC 3489 named them, in nftables' words. The port is that of QUIC. As routers do, they drop what nobody behind them asked for.
const (
	drop = `chain in { type filter hook input priority 0; iif "out" ip protocol udp drop; }
`
	// To each far end a port of its own, by chance.
	symmetric = `table ip t { ` + drop + `
	chain post { type nat hook postrouting priority 100; oif "out" masquerade fully-random; }
}`
	// One port to all far ends; only those come in, address and port, to which something was sent.
	portRestricted = `table ip t { ` + drop + `
	chain post { type nat hook postrouting priority 100; oif "out" masquerade; }
}`
	// One port; all come in.
	fullCone = `table ip t { ` + drop + `
	chain pre { type nat hook prerouting priority -100; iif "out" udp dport 7434 dnat to 10.0.0.2; }
	chain post { type nat hook postrouting priority 100; oif "out" masquerade; }
}`
	// One port; the addresses come in to which something was sent.
	restricted = `table ip t { ` + drop + `
	set sent { type ipv4_addr; flags dynamic,timeout; timeout 60s; }
	chain through { type filter hook forward priority 0; oif "out" ip protocol udp update @sent { ip daddr }; }
	chain pre { type nat hook prerouting priority -100; iif "out" ip saddr @sent udp dport 7434 dnat to 10.0.0.2; }
	chain post { type nat hook postrouting priority 100; oif "out" masquerade; }
}`
	// No UDP goes through at all.
	noUDP = portRestricted + `
table ip f {
	chain through { type filter hook forward priority 0; ip protocol udp drop; }
}`
)

// newNets makes servers and two devices behind routers.
func newNets(t *testing.T, natA, natB string) *nets {
	t.Helper()
	n := &nets{t: t, name: fmt.Sprintf("f%x", time.Now().UnixNano()&0xffffff), dir: t.TempDir()}
	w := n.add("w")
	n.ip("-n", w, "link", "add", "br0", "type", "bridge")
	n.ip("-n", w, "link", "set", "br0", "up")
	n.join(n.add("s1"), "s1", "198.51.100.1/24")
	n.join(n.add("s2"), "s2", "198.51.100.2/24")
	for _, x := range []struct{ name, nat, out string }{{"a", natA, "198.51.100.11/24"}, {"b", natB, "198.51.100.12/24"}} {
		router, host := n.add("r"+x.name), n.add(x.name)
		n.join(router, "r"+x.name, x.out)
		n.ip("-n", host, "link", "add", "eth", "type", "veth", "peer", "name", "in", "netns", router)
		n.ip("-n", router, "addr", "add", "10.0.0.1/24", "dev", "in")
		n.ip("-n", router, "link", "set", "in", "up")
		n.ip("-n", host, "addr", "add", "10.0.0.2/24", "dev", "eth")
		n.ip("-n", host, "link", "set", "eth", "up")
		n.ip("-n", host, "route", "add", "default", "via", "10.0.0.1")
		if out, err := exec.CommandContext(t.Context(), "ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1").CombinedOutput(); err != nil {
			t.Fatalf("forward: %v: %s", err, out)
		}
		n.run(router, x.nat)
	}
	return n
}

func (n *nets) server(x, addr string) (*proc, string) {
	n.t.Helper()
	dir := filepath.Join(n.dir, x)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		n.t.Fatal(err)
	}
	p := n.start(n.name+x, "server", "DIR="+dir, "LISTEN="+addr)
	line := p.wait(n.t, 20*time.Second, func(l string) bool { return strings.HasPrefix(l, "at ") })
	if line == "" {
		n.t.Fatal("the server does not begin")
	}
	return p, strings.TrimPrefix(line, "at ")
}

func needNets(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root makes namespaces")
	}
	for program, pkg := range map[string]string{"ip": "iproute2", "nft": "nftables", "sysctl": "procps"} {
		if _, err := exec.LookPath(program); err != nil {
			testkit.Lacks(t, program+" is missing: apt install "+pkg)
		}
	}
}

var natKinds = map[string]string{"full cone": fullCone, "restricted": restricted, "port restricted": portRestricted, "symmetric": symmetric}

// P3: of all pairs of routers those connect directly that can, and the others by a relay.
func TestNAT_EachPairOfRouters(t *testing.T) {
	needNets(t)
	pairs := [][2]string{{"port restricted", "port restricted"}, {"symmetric", "symmetric"}}
	if os.Getenv("SHEAF_LONG") != "" {
		pairs = nil
		order := []string{"full cone", "restricted", "port restricted", "symmetric"}
		for i, a := range order {
			for _, b := range order[i:] {
				pairs = append(pairs, [2]string{a, b})
			}
		}
	}
	for _, pair := range pairs {
		want := "quic"
		if pair[0] == "symmetric" && pair[1] == "symmetric" || pair == [2]string{"port restricted", "symmetric"} {
			want = "relay"
		}
		t.Run(pair[0]+" and "+pair[1], func(t *testing.T) {
			n := newNets(t, natKinds[pair[0]], natKinds[pair[1]])
			_, s := n.server("s1", "198.51.100.1:7436")
			begun := time.Now()
			b := n.start(n.name+"b", "b", "SERVERS="+s, "ADDR=10.0.0.2")
			a := n.start(n.name+"a", "a", "SERVERS="+s, "ADDR=10.0.0.2", "CANARY=to be put at the other device")
			got := a.wait(t, 60*time.Second, func(l string) bool { return strings.HasPrefix(l, "by "+want) })
			if got == "" {
				t.Fatalf("a does not reach b by %s", want)
			}
			t.Logf("%s after %v", got, time.Since(begun).Round(time.Millisecond))
			if a.wait(t, 30*time.Second, func(l string) bool { return l == "put <nil>" }) == "" {
				t.Error("a does not put 2 MB at b")
			}
			if b.wait(t, 30*time.Second, func(l string) bool { return strings.HasPrefix(l, "by "+want) }) == "" {
				t.Errorf("b is not reached by %s", want)
			}
		})
	}
}

// Without UDP all goes by the relay, whose memory and files have the bytes only as they are between the devices.
func TestNAT_WithoutUDPTheRelayKnowsNothing(t *testing.T) {
	needNets(t)
	n := newNets(t, noUDP, noUDP)
	canary := []byte("CANARY-" + rand.Text()) // not in this program, which the server is, too
	server, s := n.server("s1", "198.51.100.1:7436")
	n.start(n.name+"b", "b", "SERVERS="+s, "ADDR=10.0.0.2")
	a := n.start(n.name+"a", "a", "SERVERS="+s, "ADDR=10.0.0.2", "CANARY="+string(canary))
	if a.wait(t, 60*time.Second, func(l string) bool { return strings.HasPrefix(l, "by relay") }) == "" {
		t.Fatal("a does not reach b by a relay")
	}
	if a.wait(t, 30*time.Second, func(l string) bool { return l == "put <nil>" }) == "" {
		t.Fatal("a does not put 2 MB at b")
	}
	// The control: who wrote them has them.
	secrets := map[string][]byte{"the canary": canary, "the key of a": keySlice("a"), "the key of b": keySlice("b"), "the secret of the drive": secretSlice()}
	if !inMemory(t, a.cmd.Process.Pid, canary) || !inMemory(t, server.cmd.Process.Pid, []byte("198.51.100.1:7436")) {
		t.Error("the canary is not found where it is: the search finds nothing")
	}
	for what, secret := range secrets {
		if inMemory(t, server.cmd.Process.Pid, secret) {
			t.Errorf("the server has %s in its memory", what)
		}
	}
	err := filepath.WalkDir(filepath.Join(n.dir, "s1"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if filepath.Base(path) != "rendezvous.pem" || bytes.Contains(b, canary) {
			t.Errorf("the server has written %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A server that is killed: the other one does, and the devices meet again.
func TestNAT_AServerIsKilled(t *testing.T) {
	needNets(t)
	n := newNets(t, symmetric, symmetric)
	first, s1 := n.server("s1", "198.51.100.1:7436")
	_, s2 := n.server("s2", "198.51.100.2:7436")
	n.start(n.name+"b", "b", "SERVERS="+s1+" "+s2, "ADDR=10.0.0.2")
	a := n.start(n.name+"a", "a", "SERVERS="+s1+" "+s2, "ADDR=10.0.0.2")
	line := a.wait(t, 60*time.Second, func(l string) bool { return strings.HasPrefix(l, "by relay") })
	if line == "" {
		t.Fatal("a does not reach b by a relay")
	}
	killed := time.Now()
	if err := first.cmd.Process.Kill(); err != nil { // ip netns exec has become the program
		t.Fatal(err)
	}
	if a.wait(t, 90*time.Second, func(l string) bool { return strings.HasPrefix(l, "by relay 198.51.100.2:") }) == "" {
		t.Fatal("a does not reach b by the second server")
	}
	t.Logf("by the second server %v after the first was killed", time.Since(killed).Round(time.Millisecond))
}

func keySlice(name string) []byte {
	k := keyOf(name)
	return k[:]
}

func secretSlice() []byte {
	var b [32]byte
	copy(b[:], []byte{7, 7, 7})
	return append([]byte(nil), b[:]...)
}

// inMemory looks for bytes in all memory of a process that can be written.
func inMemory(t *testing.T, pid int, secret []byte) bool {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mem.Close() }()
	looked := 0
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		const step = 1 << 20
		buf := make([]byte, step+len(secret))
		for at := from; at < to; at += step {
			n, _ := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at) // some cannot be read
			looked += n
			if bytes.Contains(buf[:n], secret) {
				return true
			}
		}
	}
	if looked < 1<<20 {
		t.Fatalf("only %d bytes of memory were read", looked)
	}
	return false
}
