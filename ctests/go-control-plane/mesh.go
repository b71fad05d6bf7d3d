package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcp "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Two services: the greeter (10.96.0.10:80) by HTTP listener and route, the second one (10.96.0.11:80) by TCP listener.
type mesh struct {
	// Addresses of their endpoints, port 8080.
	Greeter []string
	Second  []string
	// Resources that are named by others and left out: LDS, CDS, EDS, RDS.
	Without []string
	// Clusters beside these, and the bytes of metadata in each.
	Fillers     int
	FillerBytes int `json:"filler_bytes"`
	// Bytes of metadata of each of the greeter's endpoints.
	Padding int
}

const (
	greeter = "greeter"
	second  = "second"
)

var typeURLs = map[string]string{
	"CDS": resource.ClusterType, "EDS": resource.EndpointType, "LDS": resource.ListenerType, "RDS": resource.RouteType,
}

// short gives the name that people use for a type.
func short(typeURL string) string {
	for name, url := range typeURLs {
		if url == typeURL {
			return name
		}
	}
	if strings.HasSuffix(typeURL, ".NameTable") {
		return "NDS"
	}
	return typeURL
}

func (m mesh) snapshot(version string) (*cache.Snapshot, error) {
	resources := map[resource.Type][]types.Resource{}
	for name, url := range typeURLs {
		all, err := m.of(name)
		if err != nil {
			return nil, err
		}
		resources[url] = all
	}
	for _, name := range m.Without {
		resources[typeURLs[name]] = nil
	}
	return cache.NewSnapshot(version, resources)
}

// of gives the resources of one type.
func (m mesh) of(name string) ([]types.Resource, error) {
	switch name {
	case "CDS":
		all := []types.Resource{edsCluster(greeter), edsCluster(second)}
		for n := range m.Fillers {
			one := edsCluster(fmt.Sprintf("filler-%d", n))
			one.Metadata = metadata(m.FillerBytes)
			all = append(all, one)
		}
		return all, nil
	case "EDS":
		return []types.Resource{assignment(greeter, m.Greeter, m.Padding), assignment(second, m.Second, 0)}, nil
	case "LDS":
		viaRoute, err := listenerOf("0.0.0.0", "envoy.filters.network.http_connection_manager", connectionManager())
		if err != nil {
			return nil, err
		}
		direct, err := listenerOf("10.96.0.11", "envoy.filters.network.tcp_proxy", &tcp.TcpProxy{
			StatPrefix: second, ClusterSpecifier: &tcp.TcpProxy_Cluster{Cluster: second},
		})
		if err != nil {
			return nil, err
		}
		return []types.Resource{viaRoute, direct}, nil
	case "RDS":
		return []types.Resource{routes()}, nil
	}
	return nil, fmt.Errorf("no type %q", name)
}

func ads() *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion:    core.ApiVersion_V3,
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	}
}

func edsCluster(name string) *cluster.Cluster {
	return &cluster.Cluster{
		Name:                 name,
		ConnectTimeout:       durationpb.New(5 * time.Second),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: ads()},
		LbPolicy:             cluster.Cluster_ROUND_ROBIN,
		// As istiod has it: who connects hundreds of times a second is at Envoy's default of 1,024 soon.
		CircuitBreakers: &cluster.CircuitBreakers{Thresholds: []*cluster.CircuitBreakers_Thresholds{{
			MaxConnections: wrapperspb.UInt32(math.MaxUint32),
		}}},
	}
}

// metadata gives text of that length, which no client has a use for.
func metadata(length int) *core.Metadata {
	if length == 0 {
		return nil
	}
	text := structpb.NewStringValue(strings.Repeat("x", length))
	return &core.Metadata{FilterMetadata: map[string]*structpb.Struct{
		"filler": {Fields: map[string]*structpb.Value{"text": text}},
	}}
}

func address(ip string, port uint32) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: ip, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
	}}}
}

func assignment(name string, ips []string, padding int) *endpoint.ClusterLoadAssignment {
	endpoints := []*endpoint.LbEndpoint{}
	for _, ip := range ips {
		endpoints = append(endpoints, &endpoint.LbEndpoint{
			Metadata:       metadata(padding),
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: address(ip, 8080)}},
		})
	}
	return &endpoint.ClusterLoadAssignment{
		ClusterName: name, Endpoints: []*endpoint.LocalityLbEndpoints{{LbEndpoints: endpoints}},
	}
}

func listenerOf(ip, filter string, config proto.Message) (*listener.Listener, error) {
	packed, err := anypb.New(config)
	if err != nil {
		return nil, err
	}
	return &listener.Listener{
		Name:             ip + "_80",
		Address:          address(ip, 80),
		TrafficDirection: core.TrafficDirection_OUTBOUND,
		FilterChains: []*listener.FilterChain{{Filters: []*listener.Filter{{
			Name: filter, ConfigType: &listener.Filter_TypedConfig{TypedConfig: packed},
		}}}},
	}, nil
}

func connectionManager() *hcm.HttpConnectionManager {
	// Its type is known; packing an empty message does not fail.
	end, _ := anypb.New(&router.Router{})
	return &hcm.HttpConnectionManager{
		StatPrefix:     "80",
		RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{ConfigSource: ads(), RouteConfigName: "80"}},
		HttpFilters: []*hcm.HttpFilter{{
			Name: "envoy.filters.http.router", ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: end},
		}},
	}
}

func routes() *route.RouteConfiguration {
	return &route.RouteConfiguration{
		Name: "80",
		VirtualHosts: []*route.VirtualHost{{
			Name:    greeter,
			Domains: []string{greeter, greeter + ":80", "10.96.0.10", "10.96.0.10:80"},
			Routes: []*route.Route{{
				Match: &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
				Action: &route.Route_Route{Route: &route.RouteAction{
					ClusterSpecifier: &route.RouteAction_Cluster{Cluster: greeter},
				}},
			}},
		}},
	}
}
