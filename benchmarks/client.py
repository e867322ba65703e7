"""HTTP by connections that are kept open, at little cost for the processors that the servers share with it."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from .adapters.base import Answer, Call

# Seconds. Nothing that is measured here may take so long.
_PATIENCE = 60.0

#: What stands for an answer where the connection ended before one came.
LOST = Answer(0, {}, {}, b"")


@dataclass(frozen=True)
class Result:
    """What :func:`many` saw, in the order of its calls. ``seconds`` is how long all of it took."""

    latencies: Sequence[float]
    answers: Sequence[Answer]
    seconds: float
    #: How often each status was answered; 0 is a connection that ended without an answer.
    statuses: Mapping[int, int]
    #: The same, of those only that the call did not expect.
    unexpected: Mapping[int, int]


class Client:
    """One connection that is kept open; a context manager. It keeps no cookies: a call carries its own."""

    def __init__(self, port: int, timeout: float = _PATIENCE) -> None:
        self._port = port
        self._timeout = timeout
        self._line: _Line | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._line is not None:
            self._line.socket.close()
            self._line = None

    def send(self, call: Call) -> Answer:
        """Send a call and return what was answered, whatever its status."""
        return self.timed(call)[0]

    def timed(self, call: Call) -> tuple[Answer, float]:
        """Do so, and return also after how many seconds the whole answer was there.

        Raises :exc:`OSError` when the connection ends without an answer.
        """
        if self._line is None:
            self._line = _Line(self._port, self._timeout)
        line = self._line
        data = encode(call, self._port)
        begin = time.perf_counter()
        try:
            line.socket.sendall(data)
            while (answer := line.take(call.method)) is None:
                pass
        except OSError:
            self.close()
            raise
        seconds = time.perf_counter() - begin
        if line.ended:
            self.close()
        return answer, seconds


def many(port: int, calls: Sequence[Call], connections: int = 3) -> Result:
    """Send each call once, as fast as they are answered by so many connections, all of them from this thread.

    A connection that ends without an answer counts as status 0, and is replaced. Raises :exc:`TimeoutError` when
    nothing is answered for a minute.
    """
    encoded = [encode(call, port) for call in calls]
    todo = deque(range(len(calls)))
    latencies, answers = [0.0] * len(calls), [LOST] * len(calls)
    lines = [_Line(port, _PATIENCE) for _ in range(min(connections, len(calls)))]
    begun = time.perf_counter()
    with selectors.DefaultSelector() as selector:

        def start(line: _Line) -> None:
            if todo:
                line.number = todo.popleft()
                selector.register(line.socket, selectors.EVENT_READ, line)
                line.begin = time.perf_counter()
                line.socket.sendall(encoded[line.number])

        for line in lines:
            start(line)
        while selector.get_map():
            ready = selector.select(_PATIENCE)
            if not ready:
                raise TimeoutError(f"{len(selector.get_map())} requests are not answered within {_PATIENCE:g} s")
            for key, _ in ready:
                line = key.data
                try:
                    answer = line.take(calls[line.number].method)
                except OSError:
                    answer, line.ended = LOST, True
                if answer is None:
                    continue
                latencies[line.number], answers[line.number] = time.perf_counter() - line.begin, answer
                selector.unregister(line.socket)
                if line.ended:
                    line.socket.close()
                    line = _Line(port, _PATIENCE)
                    lines.append(line)
                start(line)
    seconds = time.perf_counter() - begun
    for line in lines:
        line.socket.close()
    wrong = (answer.status for call, answer in zip(calls, answers, strict=True) if answer.status not in call.expect)
    return Result(latencies, answers, seconds, Counter(answer.status for answer in answers), Counter(wrong))


def encode(call: Call, port: int) -> bytes:
    """Return a call as it is sent."""
    head, body = dict(call.headers), b""
    if call.json is not None:
        body = json.dumps(call.json).encode()
        head.setdefault("Content-Type", "application/json")
    elif call.form is not None:
        body = urlencode(call.form).encode()
        head.setdefault("Content-Type", "application/x-www-form-urlencoded")
    if body or call.method not in {"GET", "HEAD"}:
        head["Content-Length"] = str(len(body))
    lines = [f"{call.method} {call.path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in head.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Line:
    """One connection, and what has come by it of the answer to its last request."""

    def __init__(self, port: int, timeout: float) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        #: Whether the server closes it after this answer.
        self.ended = False
        self.number = 0
        self.begin = 0.0
        self._data = b""

    def take(self, method: str) -> Answer | None:
        """Wait for some more data, and return the answer when it is whole.

        Raises :exc:`ConnectionError` when the server has closed the connection before.
        """
        more = self.socket.recv(262_144)
        self._data += more
        answer = self._read(method, closed=not more)
        if answer is not None:
            self._data = b""
        elif not more:
            raise ConnectionResetError(f"The connection was closed after {self._data[:200]!r}")
        return answer

    def _read(self, method: str, *, closed: bool) -> Answer | None:
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        headers, status = dict(pairs), int(first.split(" ", 2)[1])
        if "chunked" in headers.get("transfer-encoding", ""):
            whole = _unchunked(body)
        elif "content-length" in headers or method == "HEAD" or status in {204, 304}:
            length = 0 if method == "HEAD" or status in {204, 304} else int(headers["content-length"])
            whole = body if len(body) >= length else None
        else:
            whole = body if closed else None
        if whole is None:
            return None
        self.ended = closed or headers.get("connection", "").lower() == "close"
        cookies = [value.partition(";")[0].partition("=") for name, value in pairs if name == "set-cookie"]
        return Answer(status, headers, {name: value for name, _, value in cookies}, whole)


def _unchunked(body: bytes) -> bytes | None:
    """Return a body without its chunks' lengths, and nothing while it is not whole (RFC 9112 section 7.1)."""
    whole, position = b"", 0
    while (end := body.find(b"\r\n", position)) >= 0:
        length = int(body[position:end].partition(b";")[0], 16)
        position = end + 2 + length + 2
        if length == 0:
            return whole if body.endswith(b"\r\n\r\n") else None
        whole += body[end + 2 : end + 2 + length]
    return None
