"""The client of the benchmarks counts what was answered, whatever that was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from benchmarks.adapters.base import Call
from benchmarks.client import Client, many


class Handler(BaseHTTPRequestHandler):
    """Answers by the path: a status, in chunks, without a length, or not at all."""

    protocol_version = "HTTP/1.1"
    connections: ClassVar[set[tuple[str, int]]] = set()

    def do_GET(self) -> None:
        self.connections.add(self.client_address[:2])
        if self.path == "/lost":
            self.close_connection = True
            return
        if self.path == "/chunks":
            self._start(200, "Transfer-Encoding", "chunked")
            for piece in (b"5\r\nhello\r\n", b"1;x=y\r\n \r\n", b"5\r\nthere\r\n", b"0\r\n\r\n"):
                self.wfile.write(piece)
                self.wfile.flush()
        elif self.path == "/until-the-end":
            self._start(200, "Connection", "close")
            self.wfile.write(b"all of it")
        else:
            self._start(int(self.path[1:]), "Content-Length", "2")
            self.wfile.write(b"ok")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._start(200, "Content-Length", str(len(body)))
        self.wfile.write(body)

    def _start(self, status: int, name: str, value: str) -> None:
        self.send_response(status)
        self.send_header(name, value)
        self.send_header("Set-Cookie", "a=1; Path=/")
        self.send_header("Set-Cookie", "b=2=3; HttpOnly")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a server that answers as it is asked to."""
    Handler.connections.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_an_unexpected_status_is_counted(port: int) -> None:
    """Each status is counted, and those that the calls do not expect a second time."""
    calls = [Call("GET", "/200")] * 5 + [Call("GET", "/503")] * 2 + [Call("GET", "/202", expect=(202,))]
    result = many(port, calls, connections=3)
    assert result.statuses == {200: 5, 503: 2, 202: 1}
    assert result.unexpected == {503: 2}
    assert [answer.status for answer in result.answers] == [200] * 5 + [503] * 2 + [202]
    assert all(latency > 0 for latency in result.latencies)
    assert len(Handler.connections) == 3


def test_a_lost_connection_is_counted_and_replaced(port: int) -> None:
    """What was not answered has the status 0, and what follows is sent all the same."""
    result = many(port, [Call("GET", "/lost"), Call("GET", "/200"), Call("GET", "/200")], connections=1)
    assert result.statuses == {0: 1, 200: 2}
    assert result.unexpected == {0: 1}


@pytest.mark.parametrize(("path", "body"), [("/chunks", b"hello there"), ("/until-the-end", b"all of it")])
def test_a_body_is_read_to_its_end_however_that_is_told(port: int, path: str, body: bytes) -> None:
    """Chunks are put together, and a body may end with the connection; the next call is answered, too."""
    with Client(port) as client:
        assert client.send(Call("GET", path)).body == body
        assert client.send(Call("GET", "/200")).body == b"ok"


def test_cookies_and_headers_are_read_and_bodies_sent(port: int) -> None:
    """Cookies come without their attributes, and JSON and forms arrive as they were given."""
    with Client(port) as client:
        answer = client.send(Call("POST", "/", json={"a": "ü"}))
        assert answer.json == {"a": "ü"}
        assert answer.cookies == {"a": "1", "b": "2=3"}
        assert answer.headers["content-length"] == str(len(answer.body))
        assert client.send(Call("POST", "/", form={"a": "ü&"})).body == b"a=%C3%BC%26"


def test_a_client_keeps_its_connection(port: int) -> None:
    """Several calls go over one connection, until the server ends it; losing it is an error."""
    with Client(port) as client:
        for _ in range(3):
            client.send(Call("GET", "/200"))
        assert len(Handler.connections) == 1
        with pytest.raises(ConnectionError):
            client.send(Call("GET", "/lost"))
        assert client.send(Call("GET", "/200")).status == 200
    assert len(Handler.connections) == 2
