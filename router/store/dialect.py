"""What differs between databases: how a connection is made, and how a transaction that writes begins.

Everything else is plain SQLAlchemy Core. A second database is a second branch here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Dialect, Engine, Insert, Update, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.sql.compiler import SQLCompiler

from protos.errors import InvalidRequest

READERS: Final = 2  # connections that read; more only fight over the interpreter
_BUSY_S: Final = 10.0  # wait for a lock that another program, such as a backup, holds on the file


@dataclass(frozen=True, slots=True)
class Engines:
    """One engine to write, with one connection; one to read, with a few."""

    writer: Engine
    readers: Engine

    def dispose(self) -> None:
        self.readers.dispose()
        self.writer.dispose()


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL; None for `sqlite://`, which keeps nothing. Raises InvalidRequest for another database."""
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise InvalidRequest(f"the database URL {url!r} cannot be read: use sqlite:///path/to/file.db") from exc
    if parsed.get_backend_name() != "sqlite":
        raise InvalidRequest(f"the database {parsed.get_backend_name()!r} is not served: use sqlite:///path/to/file.db")
    return Path(parsed.database) if parsed.database not in (None, "", ":memory:") else None


def sqlite_engines(path: Path, synchronous: str) -> Engines:
    """WAL, so that reads never wait for the writer. `synchronous`: FULL survives a power cut, group commit pays for it."""
    writer, readers = _sqlite_engine(path, 1, synchronous), _sqlite_engine(path, READERS, synchronous)
    event.listen(writer, "begin", _begin_immediate)
    return Engines(writer, readers)


def _sqlite_engine(path: Path, connections: int, synchronous: str) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        pool_size=connections,
        max_overflow=0,
        # The transaction is ours to begin: the driver's own would begin deferred, and deadlock on its first write.
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": _BUSY_S},
    )

    def prepare(connection: Any, _record: Any) -> None:  # Any: the driver's connection and the pool's record of it
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA cache_size = -32768")  # KiB
        connection.execute("PRAGMA temp_store = MEMORY")

    event.listen(engine, "connect", prepare)
    return engine


def _begin_immediate(connection: Any) -> None:  # Any: SQLAlchemy's event signature
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def execute_many(connection: Connection, statement: Insert | Update, rows: Sequence[Mapping[str, Any]]) -> None:
    """An executemany without SQLAlchemy's work for each row, which is half of the whole: measured 36 against 15 us a
    row, and a job has eight of them. Only for columns whose values the driver takes as they are. Any: such values."""
    compiled = _compiled(statement, connection.dialect, tuple(rows[0]))
    names = compiled.positiontup
    values = rows if names is None else [tuple(row[name] for name in names) for row in rows]
    connection.exec_driver_sql(str(compiled), values)


@lru_cache(maxsize=64)
def _compiled(statement: Insert | Update, dialect: Dialect, names: tuple[str, ...]) -> SQLCompiler:
    columns = list(names) if isinstance(statement, Insert) else None
    return statement.compile(dialect=dialect, column_keys=columns)
