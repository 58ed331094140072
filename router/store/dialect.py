"""What differs between databases: how a connection is made, and how a transaction that writes begins.

Everything else is plain SQLAlchemy Core. A second database is a second branch here.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, Delete, Dialect, Engine, Insert, Select, Update, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from protos.errors import InvalidRequest

READERS: Final = 2  # connections that read; more only fight over the interpreter
_SYNCHRONOUS: Final = "synchronous"  # of a connection, in what SQLAlchemy keeps beside it
_UNFOLDED_PAGES: Final = (
    2048  # of 4 KiB in the log: where that many are written before it was folded in, a commit does it
)
_BUSY_S: Final = 10.0  # wait for a lock that another program, such as a backup, holds on the file


@dataclass(frozen=True, slots=True)
class Engines:
    """One engine to write, with one connection; one to read, with a few; one to fold the log, with one."""

    writer: Engine
    readers: Engine
    folder: Engine

    def dispose(self) -> None:
        self.folder.dispose()
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
    writer, readers, folder = (_sqlite_engine(path, connections, synchronous) for connections in (1, READERS, 1))
    event.listen(writer, "begin", _begin_immediate)
    return Engines(writer, readers, folder)


def _sqlite_engine(path: Path, connections: int, synchronous: str) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        pool_size=connections,
        max_overflow=0,
        # The transaction is ours to begin: the driver's own would begin deferred, and deadlock on its first write.
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": _BUSY_S},
    )

    def prepare(connection: Any, record: Any) -> None:  # Any: the driver's connection and the pool's record of it
        record.info[_SYNCHRONOUS] = synchronous
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_UNFOLDED_PAGES}")
        connection.execute("PRAGMA cache_size = -32768")  # KiB
        connection.execute("PRAGMA temp_store = MEMORY")

    event.listen(engine, "connect", prepare)
    return engine


def _begin_immediate(connection: Any) -> None:  # Any: SQLAlchemy's event signature
    connection.connection.cursor().execute("BEGIN IMMEDIATE")  # through SQLAlchemy it takes three times as long


def sync(connection: Connection, *, is_synced: bool) -> None:
    """Between transactions: whether the next is on the disk when it is committed. Where nothing is kept, none ever is."""
    now, wanted = connection.info[_SYNCHRONOUS], "FULL" if is_synced else "NORMAL"
    if now not in (wanted, "OFF"):
        connection.connection.cursor().execute(f"PRAGMA synchronous = {wanted}")
        connection.info[_SYNCHRONOUS] = wanted


def fold(connection: Connection) -> None:
    """Outside of a transaction: brings the log into the file, so that it begins anew once all of it is there. Syncs the
    disk; neither who writes nor who reads waits for it."""
    connection.connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")


# ---- statements that run for each job ----
#
# Straight to the driver's cursor: SQLAlchemy's own work is 50 us a statement and 20 us a row, the driver's 4 us, and each
# group of writes has over ten of them. Only for columns whose values the driver takes and gives as they are.


def execute_many(connection: Connection, statement: Insert | Update | Delete, rows: Sequence[Mapping[str, Any]]) -> int:
    """How many rows of the table it wrote. Any: the columns' values."""
    ready = _ready(statement, connection.dialect, tuple(rows[0]))
    cursor = connection.connection.cursor()
    cursor.executemany(ready.text, [ready.values(row) for row in rows])
    return int(cursor.rowcount)


def fetch(
    connection: Connection, statement: Select[Any], values: Mapping[str, Any] = MappingProxyType({})
) -> list[Any]:
    """Its rows, as named tuples. Any: the columns' values."""
    ready = _ready(statement, connection.dialect, ())
    cursor = connection.connection.cursor()
    cursor.execute(ready.text, ready.values(values))
    return [ready.row(each) for each in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A statement as the driver takes it."""

    text: str
    names: Sequence[str] | None  # of its values, in order; None: the driver takes them by name
    own: Mapping[str, Any]  # values that stand in the statement itself
    row: Callable[[Any], Any]

    def values(self, given: Mapping[str, Any]) -> Any:  # Any: as the driver takes them
        values = {**self.own, **given} if self.own else given
        return values if self.names is None else [values[name] for name in self.names]


@lru_cache(maxsize=128)
def _ready(statement: Insert | Update | Delete | Select[Any], dialect: Dialect, columns: tuple[str, ...]) -> _Ready:
    compiled = statement.compile(dialect=dialect, column_keys=list(columns) if isinstance(statement, Insert) else None)
    own = {name: value for name, value in compiled.params.items() if value is not None}
    names = statement.selected_columns.keys() if isinstance(statement, Select) else []
    row: Any = namedtuple("row", names, rename=True)  # type: ignore[misc]  # Any: its fields are known here only
    return _Ready(str(compiled), compiled.positiontup, own, row._make)
