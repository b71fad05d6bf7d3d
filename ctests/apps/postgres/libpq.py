"""libpq alone, called through ctypes: python3 libpq.py CONNINFO says which host it took and who answered there."""

import ctypes
import sys

libpq = ctypes.CDLL("libpq.so.5")
for name in ["PQconnectdb", "PQexec"]:
    getattr(libpq, name).restype = ctypes.c_void_p
for name in ["PQgetvalue", "PQhost", "PQerrorMessage"]:
    getattr(libpq, name).restype = ctypes.c_char_p

connection = ctypes.c_void_p(libpq.PQconnectdb(sys.argv[1].encode()))
if libpq.PQstatus(connection) != 0:
    sys.exit(libpq.PQerrorMessage(connection).decode())
result = ctypes.c_void_p(libpq.PQexec(connection, b"show cluster_name"))
print(f"host={libpq.PQhost(connection).decode()} answered={libpq.PQgetvalue(result, 0, 0).decode()}")
libpq.PQfinish(connection)
