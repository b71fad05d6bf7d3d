package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// How long a stream may live on after a GOAWAY.
const grace = 20 * time.Millisecond

// One gRPC server after the other on one port: a GOAWAY is a server's farewell.
type serving struct {
	wire    *wire
	streams *streams
	delta   bool
	xds     server.Server

	// Ends a storm; nil while there is none.
	calm chan struct{}

	mu   sync.Mutex
	gate *gate
	grpc *grpc.Server
}

func serve(listen string, delta bool, snapshots cache.Cache, streams *streams) (*serving, error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	s := &serving{wire: newWire(), streams: streams, delta: delta}
	s.xds = server.NewServer(context.Background(), snapshots, nil)
	s.renew()
	go func() {
		for {
			under, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			gate := s.gate
			s.mu.Unlock()
			gate.pass(s.wire.wrap(under.(*net.TCPConn)))
		}
	}()
	return s, nil
}

// storm renews the server again and again, after so long each; 0 ends it. gRPC's own limit of a connection's age would
// not do: behind the GOAWAY it waits for a second in silence.
func (s *serving) storm(every time.Duration) {
	if s.calm != nil {
		close(s.calm)
		s.calm = nil
	}
	if every == 0 {
		return
	}
	calm := make(chan struct{})
	s.calm = calm
	go func() {
		for {
			select {
			case <-calm:
				return
			case <-time.After(every):
				s.renew()
			}
		}
	}()
}

// renew replaces the server; the old one says GOAWAY and is gone after the grace.
func (s *serving) renew() {
	fresh := grpc.NewServer(grpc.StreamInterceptor(s.intercept))
	discovery.RegisterAggregatedDiscoveryServiceServer(fresh, s.xds)
	gate := newGate()
	s.mu.Lock()
	old := s.grpc
	s.grpc, s.gate = fresh, gate
	s.mu.Unlock()
	go func() { _ = fresh.Serve(gate) }()
	if old != nil {
		timer := time.AfterFunc(grace, old.Stop)
		old.GracefulStop()
		timer.Stop()
	}
}

func (s *serving) end(how string) error {
	switch how {
	case "ok":
		s.streams.end(nil)
	case "status":
		s.streams.end(status.Error(codes.Unavailable, "told to end"))
	case "goaway":
		s.renew()
	case "fin", "reset":
		s.wire.closeAll(how == "reset")
	default:
		return fmt.Errorf("no end %q", how)
	}
	return nil
}

func (s *serving) intercept(srv any, under grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if info.FullMethod == discovery.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName && !s.delta {
		return status.Error(codes.Unimplemented, "delta is not served")
	}
	one := s.streams.opened(under)
	defer s.streams.closed(one)
	done := make(chan error, 1)
	go func() { done <- handler(srv, one) }()
	select {
	case err := <-done:
		return err
	case err := <-one.end:
		return err
	}
}

// The listener of one server: connections are handed to it.
type gate struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newGate() *gate { return &gate{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (g *gate) pass(conn net.Conn) {
	select {
	case g.conns <- conn:
	case <-g.closed:
		_ = conn.Close()
	}
}

func (g *gate) Accept() (net.Conn, error) {
	select {
	case conn := <-g.conns:
		return conn, nil
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	return nil
}

func (g *gate) Addr() net.Addr { return &net.TCPAddr{} }
