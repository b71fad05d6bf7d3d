"""sockets.py HOST PORT COUNT: dials an echo server; prints its name, the echo and the peer."""
import socket
import sys

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for _ in range(count):
    with socket.create_connection((host, port), timeout=10) as connection:
        lines = connection.makefile("rw")
        name = lines.readline().strip()
        print("ping", file=lines, flush=True)
        print(name, lines.readline().strip(), "at", "%s:%d" % connection.getpeername())
