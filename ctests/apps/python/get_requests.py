"""get_requests.py URL COUNT [keep]: prints the body of each answer; of one session, or one each."""
import sys

import requests

url, count = sys.argv[1:3]
get = requests.Session().get if sys.argv[3:] else requests.get
for _ in range(int(count)):
    print(get(url, timeout=10).text, end="")
