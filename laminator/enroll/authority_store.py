"""What an authority remembers, in SQLite: challenges, certificates, revocations, CRLs.

Every change is made inside `AuthorityStore.transaction`, which commits all of it or nothing and
lets one process write at a time; with WAL and synchronous=FULL a commit survives a crash and a
power cut. An older copy of the file put back in its place would forget what was answered since:
the folder is as precious as the key.

Times are whole seconds since 1970, digests SHA-256.
"""

import contextlib
import datetime as dt
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from laminator.enroll.authority import PendingChallenge
from laminator.errors import MachineError, MalformedError, shown

SCHEMA_VERSION = 1
_BUSY_SECONDS = 20
_SCHEMA = """
CREATE TABLE challenges (
    digest BLOB PRIMARY KEY,
    request BLOB NOT NULL,
    ak BLOB NOT NULL,
    counter_name BLOB NOT NULL,
    ek_certificate_digest BLOB NOT NULL,
    anchor_kind TEXT NOT NULL,
    proof BLOB NOT NULL,
    expires INTEGER NOT NULL,
    posed INTEGER NOT NULL,
    answered INTEGER
) STRICT;
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY,
    challenge BLOB NOT NULL UNIQUE REFERENCES challenges (digest),
    der BLOB NOT NULL,
    ak_name BLOB NOT NULL,
    ek_key BLOB NOT NULL,
    ek_certificate_digest BLOB NOT NULL,
    anchor_kind TEXT NOT NULL,
    issued INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    revoked INTEGER,
    reason TEXT
) STRICT;
CREATE TABLE revoked_eks (
    certificate BLOB NOT NULL,
    key BLOB NOT NULL,
    revoked INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (certificate, key)
) STRICT;
CREATE TABLE crls (
    number INTEGER PRIMARY KEY,
    der BLOB NOT NULL,
    issued INTEGER NOT NULL
) STRICT;
"""
_ISSUED_COLUMNS = (
    "serial, der, ak_name, ek_key, ek_certificate_digest, anchor_kind, issued, expires, "
    "revoked, reason, challenge"
)


class PosedChallenge(NamedTuple):
    """A challenge as it was posed: `request` is the request's file."""

    digest: bytes
    request: bytes
    pending: PendingChallenge
    posed: int
    answered: int | None


class IssuedCertificate(NamedTuple):
    """An AK certificate that was issued. `serial` is hex; `ek_key` the digest of the EK's SPKI."""

    serial: str
    der: bytes
    ak_name: bytes
    ek_key: bytes
    ek_certificate_digest: bytes
    anchor_kind: str
    issued: int
    expires: int
    revoked: int | None
    reason: str | None
    challenge: bytes


class EkIdentity(NamedTuple):
    """An endorsement key by its certificate's digest and by its own (SubjectPublicKeyInfo)."""

    certificate: bytes
    key: bytes


class AuthorityStore:
    """An open database. Raises MachineError where SQLite cannot do its work."""

    def __init__(self, path: Path) -> None:
        """Open the database at `path`, which `create_store` made. Raises MalformedError too."""
        if not path.exists():
            message = (
                f"no authority at {shown(str(path.parent))}; make one: laminator authority init"
            )
            raise MachineError("authority.none", message)
        with _sqlite_errors():
            self._connection = _connect(path)
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            self.close()
            found = f"version {version} of the state, this is for {SCHEMA_VERSION}"
            raise MalformedError("authority.state", found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is done inside, or nothing if it raises; others wait meanwhile."""
        with _sqlite_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                # SQLite itself may have rolled back already, where the disk is full.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    # --- challenges

    def add_challenge(self, posed: PosedChallenge) -> None:
        """Remember a challenge."""
        pending = posed.pending
        self._change(
            "INSERT INTO challenges VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            posed.digest,
            posed.request,
            pending.ak,
            pending.counter_name,
            pending.ek_certificate_digest,
            pending.anchor_kind,
            pending.proof,
            int(pending.expires.timestamp()),
            posed.posed,
            posed.answered,
        )

    def challenge(self, digest: bytes) -> PosedChallenge | None:
        """Return the challenge whose file has this digest."""
        row = self._row(
            "SELECT ak, counter_name, ek_certificate_digest, anchor_kind, proof, expires, "
            "request, posed, answered FROM challenges WHERE digest = ?",
            digest,
        )
        if row is None:
            return None
        expires = dt.datetime.fromtimestamp(row[5], dt.UTC)
        pending = PendingChallenge._make((*row[:5], expires))
        return PosedChallenge(digest, row[6], pending, row[7], row[8])

    def answer(self, digest: bytes, at: int) -> None:
        """Use the challenge up."""
        self._change("UPDATE challenges SET answered = ? WHERE digest = ?", at, digest)

    def open_challenges(self, at: int) -> int:
        """Return how many challenges wait for a response."""
        query = "SELECT count(*) FROM challenges WHERE answered IS NULL AND expires >= ?"
        return self._number(query, at)

    # --- certificates

    def add_certificate(self, issued: IssuedCertificate) -> None:
        """Remember a certificate; a serial number or a challenge used twice is an error."""
        marks = ", ".join("?" * len(issued))
        self._change(f"INSERT INTO certificates ({_ISSUED_COLUMNS}) VALUES ({marks})", *issued)  # noqa: S608 - our own column names

    def certificates(self) -> tuple[IssuedCertificate, ...]:
        """Return all certificates, the oldest first."""
        return self._issued("1 = 1")

    def certificate(self, serial: str) -> IssuedCertificate | None:
        """Return the certificate with this serial number."""
        return next(iter(self._issued("serial = ?", serial)), None)

    def earned_by_challenge(self, digest: bytes) -> IssuedCertificate | None:
        """Return the certificate that the response to this challenge earned."""
        return next(iter(self._issued("challenge = ?", digest)), None)

    def earned_by_key(self, ak_name: bytes) -> tuple[IssuedCertificate, ...]:
        """Return the certificates of the attestation key with this Name."""
        return self._issued("ak_name = ?", ak_name)

    def earned_by_ek(self, ek: EkIdentity) -> tuple[IssuedCertificate, ...]:
        """Return the certificates that this endorsement key vouched for."""
        return self._issued("ek_certificate_digest = ? OR ek_key = ?", *ek)

    def revoke(self, serial: str, at: int, reason: str) -> None:
        """Revoke a certificate; one that is revoked already keeps its date and reason."""
        self._change(
            "UPDATE certificates SET revoked = ?, reason = ? WHERE serial = ? AND revoked IS NULL",
            at,
            reason,
            serial,
        )

    # --- endorsement keys

    def revoke_ek(self, ek: EkIdentity, at: int, reason: str) -> tuple[str, ...]:
        """Revoke an endorsement key and all certificates that it earned; return their serials."""
        self._change("INSERT OR IGNORE INTO revoked_eks VALUES (?, ?, ?, ?)", *ek, at, reason)
        earned = [item.serial for item in self.earned_by_ek(ek) if item.revoked is None]
        for serial in earned:
            self.revoke(serial, at, reason)
        return tuple(earned)

    def is_ek_revoked(self, ek: EkIdentity) -> bool:
        """Say whether this authority revoked the endorsement key or its certificate."""
        query = "SELECT 1 FROM revoked_eks WHERE certificate = ? OR key = ?"
        return self._row(query, *ek) is not None

    def revoked_eks(self) -> tuple[EkIdentity, ...]:
        """Return the endorsement keys that this authority revoked, in that order."""
        rows = self._rows("SELECT certificate, key FROM revoked_eks ORDER BY revoked, certificate")
        return tuple(EkIdentity(*row) for row in rows)

    # --- revocation lists

    def next_crl_number(self) -> int:
        """Return the number of the next revocation list, 1 for the first."""
        return self._number("SELECT coalesce(max(number), 0) + 1 FROM crls")

    def add_crl(self, number: int, der: bytes, at: int) -> None:
        """Remember a revocation list."""
        self._change("INSERT INTO crls VALUES (?, ?, ?)", number, der, at)

    # --- inside

    def _issued(self, condition: str, *values: object) -> tuple[IssuedCertificate, ...]:
        # Conditions and columns are this module's own text.
        query = f"SELECT {_ISSUED_COLUMNS} FROM certificates WHERE {condition}"  # noqa: S608
        rows = self._rows(f"{query} ORDER BY issued, serial", *values)
        return tuple(IssuedCertificate(*row) for row in rows)

    def _change(self, statement: str, *values: object) -> None:
        with _sqlite_errors():
            self._connection.execute(statement, values)

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        with _sqlite_errors():
            row: tuple[Any, ...] | None = self._connection.execute(query, values).fetchone()
            return row

    def _number(self, query: str, *values: object) -> int:
        (number,) = self._rows(query, *values)[0]
        return int(number)

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with _sqlite_errors():
            return self._connection.execute(query, values).fetchall()


def create_store(path: Path) -> None:
    """Make an empty database at `path`, readable by this user alone. Raises MachineError."""
    path.touch(mode=0o600, exist_ok=False)
    with _sqlite_errors(), contextlib.closing(_connect(path)) as connection:
        statements = f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        connection.executescript(statements)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


@contextlib.contextmanager
def _sqlite_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        message = f"the authority's state cannot be read or written: {error}"
        raise MachineError("authority.state", message) from error
