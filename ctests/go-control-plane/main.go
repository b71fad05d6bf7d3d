// A control plane made of go-control-plane's own cache and server, which does wrong what it is told to.
//
// Usage: go-control-plane LISTEN delta|sotw
//
// It takes one command a line on standard input (JSON, see command) and answers each with one line: its counters, or
// {"error": ...}. It ends with standard input.
//
//	mesh.go      the resources of a snapshot
//	stream.go    every stream: what goes over it is counted and remembered
//	faults.go    what is held back, repeated and made up
//	wire.go      every connection: what goes over it trickles, or is cut off
//	serving.go   gRPC servers one after the other on one port
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// What an acknowledgement may take.
const patience = 20 * time.Second

type command struct {
	Do string
	// serve: the resources of the next version. twice: the two contents of one name.
	Mesh mesh
	Then mesh
	// await: the version that is to be acknowledged, of this type (CDS, EDS, LDS, RDS).
	// hold, replay, twice, empty: the type.
	Version string
	Type    string
	// release: in which order what is held goes out.
	Types []string
	// replay: the latest response so often, with the nonce of the one before.
	Times int
	// end: ok, status, goaway, fin or reset. For all streams that are open.
	How string
	// drip: so many bytes, then a pause; 0 bytes end it. cut: so many bytes on each connection, then RST; negative ends it.
	Bytes       int
	PauseMicros int `json:"pause_us"`
	// goaways: a GOAWAY after so long, again and again; 0 ends it.
	EveryMillis int `json:"every_ms"`
}

// One client, whatever it says of itself.
type everybody struct{}

func (everybody) ID(*core.Node) string { return "all" }

func main() {
	if len(os.Args) != 3 || (os.Args[2] != "delta" && os.Args[2] != "sotw") {
		fmt.Fprintln(os.Stderr, "usage: go-control-plane LISTEN delta|sotw")
		os.Exit(2)
	}
	// Not the mode that waits until everything of a type was asked for by name: who subscribes to what it uses never
	// gets an answer there.
	snapshots := cache.NewSnapshotCache(false, everybody{}, nil)
	streams := newStreams()
	serving, err := serve(os.Args[1], os.Args[2] == "delta", snapshots, streams)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	version := 0
	obey := func(c command) error {
		switch c.Do {
		case "serve":
			version++
			snapshot, err := c.Mesh.snapshot(strconv.Itoa(version))
			if err != nil {
				return err
			}
			streams.serves(version)
			return snapshots.SetSnapshot(context.Background(), "all", snapshot)
		case "await":
			return streams.await(c.Type, c.Version)
		case "hold":
			streams.hold(c.Type)
		case "release":
			return streams.release(c.Types)
		case "replay":
			return streams.replay(c.Type, c.Times)
		case "twice":
			return streams.twice(c.Type, c.Mesh, c.Then)
		case "empty":
			return streams.empty(c.Type)
		case "end":
			return serving.end(c.How)
		case "drip":
			serving.wire.drip(c.Bytes, time.Duration(c.PauseMicros)*time.Microsecond)
		case "cut":
			serving.wire.cut(c.Bytes)
		case "goaways":
			serving.storm(time.Duration(c.EveryMillis) * time.Millisecond)
		case "stats":
		default:
			return fmt.Errorf("no command %q", c.Do)
		}
		return nil
	}
	answers := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c command
		err := json.Unmarshal(lines.Bytes(), &c)
		if err == nil {
			err = obey(c)
		}
		if err != nil {
			err = answers.Encode(map[string]string{"error": err.Error()})
		} else {
			err = answers.Encode(streams.counters(serving.wire))
		}
		if err != nil {
			os.Exit(1)
		}
	}
}
