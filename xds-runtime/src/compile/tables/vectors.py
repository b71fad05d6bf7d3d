"""Ring hash and Maglev tables by an implementation that shares no line with ours: writes vectors.json beside it.

Written from the descriptions in Envoy's documentation and the Maglev paper, in doubles as Envoy has them, over PyPI's xxhash and
libstdc++'s std::_Hash_bytes, the MurmurHash2 that Envoy names. Run: pip install xxhash && python3 vectors.py
"""

import bisect
import ctypes
import json
import math
import pathlib

import xxhash

HASH_BYTES = ctypes.CDLL("libstdc++.so.6")["_ZSt11_Hash_bytesPKvmm"]
HASH_BYTES.restype = ctypes.c_size_t
HASH_BYTES.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t]


def xxh64(text, seed=0):
    return xxhash.xxh64(text.encode(), seed=seed).intdigest()


def murmur2(text):
    return HASH_BYTES(text.encode(), len(text), 0xC70F6907)



HOSTS = {
    "equal": [(f"10.0.0.{n}:80", 1) for n in range(1, 6)],
    "weighted": [("10.0.0.1:80", 1), ("10.0.0.2:80", 2), ("10.0.0.3:8080", 5)],
    "mixed": [("192.0.2.7:443", 3), ("192.0.2.8:443", 1), ("[2001:db8::1]:443", 3)],
    "order": [("10.0.0.9:80", 2), ("10.0.0.10:80", 3), ("10.0.0.100:80", 1)],
    "one": [("10.0.0.1:80", 7)],
}
KEYS = [xxh64(f"10.1.{n // 250}.{n % 250}") for n in range(500)]


def ring(hosts, minimum, maximum, function):
    total = sum(weight for _, weight in hosts)
    shares = [weight / total for _, weight in hosts]
    lightest = min(shares)
    scale = min(math.ceil(lightest * minimum) / lightest, maximum)
    entries, target = [], 0.0
    for index, ((name, _), share) in enumerate(zip(hosts, shares)):
        target += scale * share
        copy = 0
        while len(entries) < target:
            entries.append((function(f"{name}_{copy}"), index))
            copy += 1
    entries.sort()
    points = [point for point, _ in entries]
    return entries, [entries[bisect.bisect_left(points, key) % len(points)][1] for key in KEYS]


def maglev(hosts, size):
    total = sum(weight for _, weight in hosts)
    shares = [weight / total for _, weight in hosts]
    heaviest = max(shares)
    rows = []
    # In the order of their names.
    order = sorted(range(len(hosts)), key=lambda index: hosts[index][0])
    for index in order:
        name = hosts[index][0]
        offset = xxh64(name) % size
        skip = xxh64(name, seed=1) % (size - 1) + 1
        rows.append(iter([(offset + skip * n) % size for n in range(size)]))
    table, targets, round_ = {}, [0.0] * len(hosts), 1
    while len(table) < size:
        for index, row in zip(order, rows):
            if round_ * shares[index] < targets[index] or len(table) == size:
                continue
            targets[index] += heaviest
            table[next(place for place in row if place not in table)] = index
        round_ += 1
    return [table[place] for place in range(size)], [table[key % size] for key in KEYS]


def main():
    cases = []
    for name, hosts in HOSTS.items():
        for minimum, maximum in [(64, 8388608), (1024, 8388608), (1024, 100)]:
            for function in [xxh64, murmur2]:
                entries, picks = ring(hosts, minimum, maximum, function)
                cases.append({
                    "policy": "ring", "hosts": hosts, "minimum": minimum, "maximum": maximum, "hash": function.__name__,
                    "size": len(entries), "first": [str(point) for point, _ in entries[:3]],
                    "picks": "".join(str(pick) for pick in picks),
                })
        for size in [7, 1009, 65537]:
            table, picks = maglev(hosts, size)
            cases.append({
                "policy": "maglev", "hosts": hosts, "size": size,
                "counts": [table.count(index) for index in range(len(hosts))],
                "picks": "".join(str(pick) for pick in picks),
            })
    text = json.dumps({"keys": [str(key) for key in KEYS], "cases": cases}, indent=None, separators=(",", ":"))
    pathlib.Path(__file__).with_name("vectors.json").write_text(text.replace('{"policy"', '\n{"policy"') + "\n")


main()
