package main

import (
	"fmt"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Every stream that is open, and what was counted on all that ever were.
type streams struct {
	mu      sync.Mutex
	changed *sync.Cond
	open    map[*stream]bool
	held    map[string]bool
	version string

	total, peak                      int
	requests, responses, acks, nacks map[string]int
	lastNACK                         map[string]string
}

func newStreams() *streams {
	s := &streams{
		open: map[*stream]bool{}, held: map[string]bool{}, lastNACK: map[string]string{},
		requests: map[string]int{}, responses: map[string]int{}, acks: map[string]int{}, nacks: map[string]int{},
	}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// One stream.
type stream struct {
	grpc.ServerStream
	all *streams
	end chan error
	// One message at a time: a handler's, or one that was made up. Never taken under the lock of all streams, because
	// who reads slowly holds it up.
	sending sync.Mutex
	// The rest is under the lock of all streams.
	// What go-control-plane has sent, by type: the last two.
	sent map[string][]proto.Message
	held map[string][]proto.Message
	// The version that each nonce stands for, and the last that was acknowledged, by type.
	versions map[string]string
	acked    map[string]string
	made     int
}

func (s *streams) opened(under grpc.ServerStream) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := &stream{
		ServerStream: under, all: s, end: make(chan error, 1),
		sent: map[string][]proto.Message{}, held: map[string][]proto.Message{},
		versions: map[string]string{}, acked: map[string]string{},
	}
	s.open[one] = true
	s.total++
	s.peak = max(s.peak, len(s.open))
	return one
}

func (s *streams) closed(one *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, one)
	s.changed.Broadcast()
}

// SendMsg is what go-control-plane says.
func (o *stream) SendMsg(m any) error {
	message := m.(proto.Message)
	typeURL, nonce, version := about(message)
	name := short(typeURL)
	o.all.mu.Lock()
	o.versions[name+nonce] = version
	o.sent[name] = append(o.sent[name], message)
	o.sent[name] = o.sent[name][max(0, len(o.sent[name])-2):]
	held := o.all.held[name]
	if held {
		o.held[name] = append(o.held[name], message)
	}
	o.all.mu.Unlock()
	if held {
		return nil
	}
	return o.send(message)
}

func (o *stream) send(message proto.Message) error {
	typeURL, _, _ := about(message)
	o.sending.Lock()
	defer o.sending.Unlock()
	o.all.mu.Lock()
	o.all.responses[short(typeURL)]++
	o.all.mu.Unlock()
	return o.ServerStream.SendMsg(message)
}

// latest gives what go-control-plane has sent of a type: the last two.
func (o *stream) latest(name string) []proto.Message {
	o.all.mu.Lock()
	defer o.all.mu.Unlock()
	return append([]proto.Message{}, o.sent[name]...)
}

// RecvMsg is what go-control-plane hears.
func (o *stream) RecvMsg(m any) error {
	if err := o.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	o.all.mu.Lock()
	defer o.all.mu.Unlock()
	var name, nonce, complaint string
	switch request := m.(type) {
	case *discovery.DiscoveryRequest:
		name, nonce = short(request.GetTypeUrl()), request.GetResponseNonce()
		complaint = request.GetErrorDetail().GetMessage()
	case *discovery.DeltaDiscoveryRequest:
		name, nonce = short(request.GetTypeUrl()), request.GetResponseNonce()
		complaint = request.GetErrorDetail().GetMessage()
	}
	o.all.requests[name]++
	switch {
	case complaint != "":
		o.all.nacks[name]++
		o.all.lastNACK[name] = complaint
	case nonce != "":
		o.all.acks[name]++
		if version, known := o.versions[name+nonce]; known {
			o.acked[name] = version
		}
	}
	o.all.changed.Broadcast()
	return nil
}

func about(message proto.Message) (typeURL, nonce, version string) {
	switch response := message.(type) {
	case *discovery.DiscoveryResponse:
		return response.GetTypeUrl(), response.GetNonce(), response.GetVersionInfo()
	case *discovery.DeltaDiscoveryResponse:
		return response.GetTypeUrl(), response.GetNonce(), response.GetSystemVersionInfo()
	}
	return "", "", ""
}

func (s *streams) serves(version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = fmt.Sprint(version)
}

// await waits until a stream is open and every open one has acknowledged the version of a type; "" is the latest.
func (s *streams) await(name, version string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version == "" {
		version = s.version
	}
	until := time.Now().Add(patience)
	timer := time.AfterFunc(patience, s.changed.Broadcast)
	defer timer.Stop()
	for {
		done := len(s.open) > 0
		for one := range s.open {
			done = done && one.acked[name] == version
		}
		if done {
			return nil
		}
		if time.Now().After(until) {
			acked := []string{}
			for one := range s.open {
				acked = append(acked, one.acked[name])
			}
			return fmt.Errorf("version %s of %s is not acknowledged in %v, but %q (%d sent)", version, name, patience, acked, s.responses[name])
		}
		s.changed.Wait()
	}
}

// end ends every open stream with a status; nil is OK.
func (s *streams) end(status error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for one := range s.open {
		select {
		case one.end <- status:
		default: // told already
		}
		// From here on it does not count as open.
		delete(s.open, one)
	}
}

func (s *streams) counters(w *wire) map[string]any {
	w.mu.Lock()
	connections, connectionsOpen, cuts := w.accepted, len(w.open), w.cuts
	w.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	copied := func(counts map[string]int) map[string]int {
		result := map[string]int{}
		for name, count := range counts {
			result[name] = count
		}
		return result
	}
	complaints := map[string]string{}
	for name, text := range s.lastNACK {
		complaints[name] = text
	}
	return map[string]any{
		"version": s.version, "streams_total": s.total, "streams_open": len(s.open), "streams_peak": s.peak,
		"connections_total": connections, "connections_open": connectionsOpen, "cuts": cuts,
		"requests": copied(s.requests), "responses": copied(s.responses), "acks": copied(s.acks), "nacks": copied(s.nacks),
		"last_nack": complaints,
	}
}
