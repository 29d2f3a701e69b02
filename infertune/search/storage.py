"""Storages of Optuna studies: what their URLs may be, how they are opened, and how they are shown."""

import warnings

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalRedisBackend
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from infertune.errors import UsageError

_JOURNAL_ENDS = (".log", ".journal")
_CONNECT_TIMEOUT_S = 10  # a run waits so long for a server that does not answer; judgement
_WITH_TIMEOUT = ("postgresql", "postgresql+psycopg2", "postgresql+psycopg", "mysql", "mysql+pymysql", "mysql+mysqldb")
_EXAMPLES = "it is like sqlite:///runs.db, postgresql://USER@HOST/NAME or runs.log, a journal file"


def check_storage(storage: str, flag: str = "--storage") -> None:
    """Refuse what is no URL of a storage and no journal file. Nothing is opened.

    Args:
        storage: As the user gave it.
        flag: For the message.

    Raises:
        UsageError: It is neither; the message does not repeat it, since it may have a password.
    """
    if "://" not in storage and not storage.endswith(_JOURNAL_ENDS):
        raise UsageError(f"{flag} takes a URL or a journal file: {_EXAMPLES}")
    try:
        _url(storage)
    except (ArgumentError, ValueError):
        raise UsageError(f"{flag} is no URL of a storage: {_EXAMPLES}") from None


def open_storage(storage: str) -> BaseStorage:
    """Open a storage; what goes wrong there is the error of its driver."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if (url := _url(storage)) is None:
        return JournalStorage(JournalFileBackend(storage))
    if url.drivername.startswith("redis"):
        return JournalStorage(JournalRedisBackend(storage))
    timeout = {"connect_timeout": _CONNECT_TIMEOUT_S} if url.drivername in _WITH_TIMEOUT else {}
    return RDBStorage(storage, engine_kwargs={"connect_args": timeout})


def shown_storage(storage: str) -> str:
    """A storage as it may be printed: without password and options."""
    url = _url(storage)
    return storage if url is None else url.set(query={}).render_as_string(hide_password=True)


def reason_of(error: Exception, storage: str) -> str:
    """Why a storage failed, in one line without its password."""
    text = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0]
    url = _url(storage)
    for secret in (storage, url.password if url else None, *(map(str, url.query.values()) if url else ())):
        text = text.replace(str(secret), "***") if secret else text
    return text


def _url(storage: str) -> URL | None:
    """A storage's URL; None of a journal file."""
    return make_url(storage) if "://" in storage else None
