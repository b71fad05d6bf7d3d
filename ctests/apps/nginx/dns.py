"""The cluster's DNS, as far as nginx's resolver asks it: python3 dns.py ADDRESS... answers every A query with these."""

import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 5353))
addresses = [socket.inet_aton(address) for address in sys.argv[1:]]
print("ready", flush=True)
while True:
    query, client = server.recvfrom(512)
    # RFC 1035, 4.1: the question as it came, then for each address a pointer to its name, A, IN, a TTL of 1 s.
    header = query[:2] + b"\x81\x80" + b"\0\1" + len(addresses).to_bytes(2, "big") + bytes(4)
    records = [b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + address for address in addresses]
    server.sendto(header + query[12:] + b"".join(records), client)
