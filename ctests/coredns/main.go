// CoreDNS with two plugins: it answers at an address from a zone file, as quick as a cluster's can be.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/file"
)

func main() {
	dnsserver.Directives = []string{"bind", "file"}
	coremain.Run()
}
