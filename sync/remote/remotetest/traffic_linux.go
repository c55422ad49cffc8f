package remotetest

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// headerBytes is more than the headers of a request and its answer have, which are not counted one by one.
const headerBytes = 1 << 10

// Traffic counts what goes through a Proxy. It is safe for concurrent use, but for Delay, which is set before Watch.
type Traffic struct {
	Requests, Up, Down atomic.Int64  // Up and Down: bytes of bodies
	Delay              time.Duration // of each request, as if the server were that far away

	mu    sync.Mutex
	asked []Asked
}

// Asked is one request.
type Asked struct {
	At   time.Time
	What string // method, path, range and destination
}

// String returns what was asked, and the second in which that was.
func (a Asked) String() string { return a.At.Format("05.000 ") + a.What }

type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// Watch counts what goes through p from now on, in place of what Before and After had it do.
func (c *Traffic) Watch(p *Proxy) {
	p.Before(func(_ http.ResponseWriter, r *http.Request) bool {
		c.Requests.Add(1)
		c.mu.Lock()
		c.asked = append(c.asked, Asked{time.Now(), fmt.Sprint(r.Method, " ", r.URL.RequestURI(), " ", r.Header.Get("Range"), r.Header.Get("Destination"))})
		c.mu.Unlock()
		time.Sleep(c.Delay) // it is the distance, and orders nothing
		r.Body = counted{r.Body, &c.Up}
		return false
	})
	p.After(func(r *http.Response) error {
		r.Body = counted{r.Body, &c.Down}
		return nil
	})
}

// Left returns the bytes that have left the server so far, with more than those of headers.
func (c *Traffic) Left() int64 { return c.Down.Load() + c.Requests.Load()*headerBytes }

// Take returns what was asked since the last call.
func (c *Traffic) Take() []Asked {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.asked
	c.asked = nil
	return asked
}
