"""pool.py HOST PORT COUNT: each connection from one of three forked workers."""
import multiprocessing
import socket
import sys


def dial(address):
    with socket.create_connection(address, timeout=10) as connection:
        lines = connection.makefile("rw")
        name = lines.readline().strip()
        print("ping", file=lines, flush=True)
        return "%s %s at %s:%d" % (name, lines.readline().strip(), *connection.getpeername())


if __name__ == "__main__":
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with multiprocessing.get_context("fork").Pool(3) as pool:
        for line in pool.map(dial, [(host, port)] * count, chunksize=1):
            print(line)
