package main

import (
	"fmt"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// hold keeps back the responses of a type, on streams to come, too.
func (s *streams) hold(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[name] = true
}

// release lets what was held back go, type by type.
func (s *streams) release(names []string) error {
	for _, name := range names {
		s.mu.Lock()
		delete(s.held, name)
		s.mu.Unlock()
		err := s.each(func(one *stream) error {
			s.mu.Lock()
			messages := one.held[name]
			delete(one.held, name)
			s.mu.Unlock()
			for _, message := range messages {
				if err := one.send(message); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// replay repeats the latest response of a type with the nonce of the one before.
func (s *streams) replay(name string, times int) error {
	return s.each(func(one *stream) error {
		sent := one.latest(name)
		if len(sent) < 2 {
			return fmt.Errorf("%d responses of %s were sent: none is old", len(sent), name)
		}
		_, stale, _ := about(sent[0])
		again := proto.Clone(sent[1])
		switch response := again.(type) {
		case *discovery.DiscoveryResponse:
			response.Nonce = stale
		case *discovery.DeltaDiscoveryResponse:
			response.Nonce = stale
		}
		for range times {
			if err := one.send(again); err != nil {
				return err
			}
		}
		return nil
	})
}

// twice sends one response that has each resource of a type with two contents.
func (s *streams) twice(name string, first, then mesh) error {
	return s.makeUp(name, first, then)
}

// empty sends a response without resources.
func (s *streams) empty(name string) error { return s.makeUp(name) }

// makeUp sends one response with all resources of a type, of each mesh.
func (s *streams) makeUp(name string, meshes ...mesh) error {
	packed := []*anypb.Any{}
	wrapped := []*discovery.Resource{}
	for _, m := range meshes {
		resources, err := m.of(name)
		if err != nil {
			return err
		}
		for _, one := range resources {
			content, err := anypb.New(one)
			if err != nil {
				return err
			}
			packed = append(packed, content)
			wrapped = append(wrapped, &discovery.Resource{Name: cache.GetResourceName(one), Version: "made", Resource: content})
		}
	}
	return s.each(func(one *stream) error {
		one.made++
		nonce := fmt.Sprintf("made-%d", one.made)
		var last proto.Message
		if sent := one.latest(name); len(sent) > 0 {
			last = sent[len(sent)-1]
		}
		switch last := last.(type) {
		case *discovery.DiscoveryResponse:
			// With another version go-control-plane would answer the acknowledgement with what it has itself.
			return one.send(&discovery.DiscoveryResponse{
				VersionInfo: last.GetVersionInfo(), Nonce: nonce, TypeUrl: typeURLs[name], Resources: packed,
			})
		case *discovery.DeltaDiscoveryResponse:
			return one.send(&discovery.DeltaDiscoveryResponse{
				SystemVersionInfo: nonce, Nonce: nonce, TypeUrl: typeURLs[name], Resources: wrapped,
			})
		}
		return fmt.Errorf("nothing of %s was sent yet", name)
	})
}

// each does something to every open stream; that there is none is an error.
func (s *streams) each(do func(*stream) error) error {
	s.mu.Lock()
	open := []*stream{}
	for one := range s.open {
		open = append(open, one)
	}
	s.mu.Unlock()
	if len(open) == 0 {
		return fmt.Errorf("no stream is open")
	}
	for _, one := range open {
		if err := do(one); err != nil {
			return err
		}
	}
	return nil
}
