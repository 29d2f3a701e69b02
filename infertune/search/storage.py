"""Storages of Optuna studies: what their URLs may be, how they are opened, and how they are shown."""

import re
import warnings
from urllib.parse import parse_qs, unquote, urlencode

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalRedisBackend

from infertune.errors import UsageError

# As SQLAlchemy reads one (it is imported by the storage only: 12 MiB); what stands before the last @ is kept secret.
_URL = re.compile(
    r"(?P<scheme>[a-z][\w+]*)://(?:(?P<user>[^:/@]*)(?::(?P<password>.*))?@)?"
    r"(?P<host>\[[^\]]*\]|[^/:?]*)(?::(?P<port>\d*))?(?P<path>/[^?]*)?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_JOURNAL_ENDS = (".log", ".journal")
_IN_MEMORY = ("", "/", "/:memory:", "/file::memory:")  # paths of SQLite that are no file
_CONNECT_TIMEOUT_S = 10  # a run waits so long for a server that does not answer; judgement
_WITH_TIMEOUT = ("postgresql", "postgresql+psycopg2", "postgresql+psycopg", "mysql", "mysql+pymysql", "mysql+mysqldb")
_EXAMPLES = "it is like sqlite:///runs.db, postgresql://USER@HOST/NAME or runs.log, a journal file"


def check_storage(storage: str, flag: str = "--storage") -> None:
    """Refuse what is no URL of a storage and no journal file, or is gone with the process. Nothing is opened.

    Args:
        storage: As the user gave it.
        flag: For the message.

    Raises:
        UsageError: It is neither, or in memory; the message does not repeat it, since it may have a password.
    """
    url = _URL.fullmatch(storage)
    if not (url if "://" in storage else storage.endswith(_JOURNAL_ENDS)):
        raise UsageError(f"{flag} takes the URL of a storage: {_EXAMPLES}")
    sqlite = url if url and url["scheme"].startswith("sqlite") else None
    if sqlite and ((sqlite["path"] or "") in _IN_MEMORY or "mode=memory" in (sqlite["query"] or "")):
        raise UsageError(f"{flag}: a study in memory can be seen by nobody; name a file, as in sqlite:///runs.db")


def open_storage(storage: str) -> BaseStorage:
    """Open a storage; what goes wrong there is the error of its driver."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if "://" not in storage:
        return JournalStorage(JournalFileBackend(storage))
    driver = storage.partition("://")[0]
    if driver.startswith("redis"):
        return JournalStorage(JournalRedisBackend(_with_timeouts(storage)))
    timeout = {"connect_timeout": _CONNECT_TIMEOUT_S} if driver in _WITH_TIMEOUT else {}
    return RDBStorage(storage, engine_kwargs={"connect_args": timeout})


def _with_timeouts(redis: str) -> str:
    """A URL of Redis with the timeouts that it does not set itself: its client before version 8 waits without end."""
    _, mark, query = redis.partition("?")
    missing = [name for name in ("socket_connect_timeout", "socket_timeout") if name not in parse_qs(query)]
    return redis + ("&" if mark else "?") * bool(missing) + urlencode(dict.fromkeys(missing, _CONNECT_TIMEOUT_S))


def shown_storage(storage: str) -> str:
    """A storage as it may be printed: without password and options."""
    url = _URL.fullmatch(storage)
    if url is None:
        return storage
    user = "" if url["user"] is None else f"{url['user']}:***@" if url["password"] else f"{url['user']}@"
    port = f":{url['port']}" if url["port"] else ""
    return f"{url['scheme']}://{user}{url['host']}{port}{url['path'] or ''}"


def reason_of(error: Exception, storage: str) -> str:
    """Why a storage failed, in one line without its password."""
    text = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0]
    url = _URL.fullmatch(storage)
    secrets = [url["password"], unquote(url["password"] or ""), url["query"]] if url else []
    for secret in filter(None, (storage if url else None, *secrets)):
        text = text.replace(secret, "***")
    return text
