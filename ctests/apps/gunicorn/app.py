"""A WSGI application that calls a service of the mesh, once when it is loaded and once for each request."""

import os
import urllib.request


def call():
    with urllib.request.urlopen("http://greeter/", timeout=5) as answer:
        return answer.read().decode().split()[0]


AT_LOAD = call()


def app(environ, start_response):
    body = f"worker={os.getpid()} backend={call()}\n".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
