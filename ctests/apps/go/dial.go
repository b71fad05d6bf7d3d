// dial HOST PORT COUNT: dials an echo server; prints its name, the echo and the peer.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

func main() {
	count, _ := strconv.Atoi(os.Args[3])
	for ; count > 0; count-- {
		if err := dial(net.JoinHostPort(os.Args[1], os.Args[2])); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func dial(address string) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	lines := bufio.NewReader(connection)
	name, err := lines.ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Fprintln(connection, "ping")
	echo, err := lines.ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Println(strings.TrimSpace(name), strings.TrimSpace(echo), "at", connection.RemoteAddr())
	return nil
}
