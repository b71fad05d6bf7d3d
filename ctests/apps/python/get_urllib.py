"""get_urllib.py URL COUNT: prints the body of each answer."""
import sys
import urllib.request

url, count = sys.argv[1:]
for _ in range(int(count)):
    with urllib.request.urlopen(url, timeout=10) as answer:
        print(answer.read().decode(), end="")
