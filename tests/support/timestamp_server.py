"""A card and a simulated time-stamping authority for tests, and the authority as a server."""

import contextlib
import functools
import hashlib
import http.server
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from enclave_sim.timestamp_authority import TimestampAuthority
from laminator.card import Card, parse_card
from laminator.timestamp.query import Query

CARD = Path(__file__).parents[1] / "vectors" / "cards" / "v1" / "training.card"
PLAN = f"""\
version = 1
runs = 1
seed = "none"
metric = ["accuracy"]

[data]
test = "sha-256:{hashlib.sha256(b"test").hexdigest()}"
"""
REPLY_TYPE = "application/timestamp-reply"


@functools.cache
def authority() -> TimestampAuthority:
    """Return one authority for all tests of a process."""
    return TimestampAuthority.create(Path(tempfile.mkdtemp(prefix="laminator-test-")) / "tsa")


def golden_card() -> Card:
    """Return a card without endorsements."""
    return parse_card(CARD.read_bytes())


def put_card(folder: Path, name: str = "x.card") -> Path:
    """Put a copy of the card into `folder`."""
    place = folder / name
    place.write_bytes(CARD.read_bytes())
    return place


def reply_to(query: Query) -> bytes:
    """Return the authority's response."""
    return authority().reply(query.der)


class Reply(NamedTuple):
    """What a server answers."""

    body: bytes
    status: int = 200
    content_type: str = REPLY_TYPE
    headers: tuple[tuple[str, str], ...] = ()


class Asked(NamedTuple):
    """What a server was sent: the content type and the body."""

    content_type: str
    body: bytes


class Server(NamedTuple):
    """A running server: its address, and what it was sent so far."""

    url: str
    asked: list[Asked]


@contextlib.contextmanager
def serving(answer: Callable[[bytes], Reply]) -> Iterator[Server]:
    """Serve what `answer` makes of a request's body, on the loopback interface."""
    asked: list[Asked] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(Asked(self.headers["Content-Type"], body))
            reply = answer(body)
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{server.server_port}/tsa", asked)
        finally:
            server.shutdown()
            thread.join()


def simulated_tsa(body: bytes) -> Reply:
    """Answer as the authority does."""
    return Reply(authority().reply(body))
