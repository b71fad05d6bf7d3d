package main

import (
	"net"
	"sync"
	"time"
)

// What happens to the bytes that go to the client.
type wire struct {
	mu       sync.Mutex
	accepted int
	cuts     int
	open     map[*conn]bool
	bytes    int
	pause    time.Duration
	cutAfter int // negative: nothing is cut
}

func newWire() *wire { return &wire{open: map[*conn]bool{}, cutAfter: -1} }

// drip lets through so many bytes at a time; 0 = all.
func (w *wire) drip(bytes int, pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes, w.pause = bytes, pause
}

// cut resets each connection after so many more bytes: those that are open, and those to come.
func (w *wire) cut(after int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutAfter = after
	for c := range w.open {
		c.left = after
	}
}

// closeAll ends every connection, by RST or FIN.
func (w *wire) closeAll(reset bool) {
	w.mu.Lock()
	all := []*conn{}
	for c := range w.open {
		all = append(all, c)
	}
	w.mu.Unlock()
	for _, c := range all {
		c.finish(reset)
	}
}

func (w *wire) wrap(under *net.TCPConn) *conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accepted++
	c := &conn{TCPConn: under, wire: w, left: w.cutAfter}
	w.open[c] = true
	return c
}

type conn struct {
	*net.TCPConn
	wire *wire
	left int // bytes until the RST; negative: none
}

// allowed takes from what may be written now.
func (c *conn) allowed(length int) (bytes int, pause time.Duration, cut bool) {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	if c.wire.bytes > 0 && length > c.wire.bytes {
		length, pause = c.wire.bytes, c.wire.pause
	}
	if c.left >= 0 {
		length, cut = min(length, c.left), length > c.left
		c.left -= length
	}
	if cut {
		c.wire.cuts++
	}
	return length, pause, cut
}

func (c *conn) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		bytes, pause, cut := c.allowed(len(b) - written)
		n, err := c.TCPConn.Write(b[written : written+bytes])
		written += n
		if err != nil {
			return written, err
		}
		if cut {
			c.finish(true)
			return written, net.ErrClosed
		}
		time.Sleep(pause)
	}
	return written, nil
}

func (c *conn) finish(reset bool) {
	if reset {
		_ = c.TCPConn.SetLinger(0)
	}
	_ = c.Close()
}

func (c *conn) Close() error {
	c.wire.mu.Lock()
	delete(c.wire.open, c)
	c.wire.mu.Unlock()
	return c.TCPConn.Close()
}
