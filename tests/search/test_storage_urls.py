"""The URLs of storages: which are taken, and that no password is shown."""

import pytest
from sqlalchemy.engine import make_url

from infertune.errors import UsageError
from infertune.search.storage import check_storage, open_storage, reason_of, shown_storage

_SHOWN = {
    "sqlite:///runs.db": "sqlite:///runs.db",
    "sqlite:////tmp/a@b:c.db?timeout=3": "sqlite:////tmp/a@b:c.db",
    "postgresql://me:pa%40ss/w#d@host:5432/x?sslpassword=pa": "postgresql://me:***@host:5432/x",
    "mysql+pymysql://me:p@ss@host/x": "mysql+pymysql://me:***@host/x",
    "mysql+pymysql://me:pass@[::1]:3306/x": "mysql+pymysql://me:***@[::1]:3306/x",
    "postgresql://me@host/x": "postgresql://me@host/x",
    "redis://:pass@host:6379/0": "redis://:***@host:6379/0",
    "runs.log": "runs.log",
}


@pytest.mark.parametrize("storage", _SHOWN)
def test_a_storage_is_taken_and_shown_without_its_password(storage: str) -> None:
    check_storage(storage)
    assert shown_storage(storage) == _SHOWN[storage]
    if "://" in storage:
        assert make_url(storage).drivername == storage.partition("://")[0], "SQLAlchemy takes it too"


@pytest.mark.parametrize("storage", ["foo", "", "://me:pass@x", "postgresql://me:pass@host:port/x", "a b://x"])
def test_what_is_none_is_refused_without_repeating_it(storage: str) -> None:
    with pytest.raises(UsageError, match="it is like sqlite:///runs.db") as refused:
        check_storage(storage)
    assert "pass@" not in str(refused.value)


@pytest.mark.parametrize(
    "storage",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite+pysqlite:///:memory:",
        "sqlite:///?timeout=3",
        "sqlite:///file:x?mode=memory&uri=true",
    ],
)
def test_a_study_in_memory_is_refused_since_nobody_could_see_it(storage: str) -> None:
    with pytest.raises(UsageError, match=r"^--storage: a study in memory can be seen by nobody; name a file"):
        check_storage(storage)


def test_what_a_driver_says_is_printed_without_the_password() -> None:
    url = "postgresql://me:pa%40ss@host/x?token=abc"
    said = reason_of(RuntimeError(f"cannot connect to {url} as me with pa@ss (token=abc)\nmore"), url)
    assert said == "cannot connect to *** as me with *** (***)"


@pytest.mark.parametrize(
    ("given", "opened"),
    [
        ("redis://:pass@host:6379/0", "redis://:pass@host:6379/0?socket_connect_timeout=10&socket_timeout=10"),
        ("rediss://host?db=1", "rediss://host?db=1&socket_connect_timeout=10&socket_timeout=10"),
        ("redis://host?socket_timeout=60", "redis://host?socket_timeout=60&socket_connect_timeout=10"),
        (
            "redis://host?socket_timeout=60&socket_connect_timeout=1",
            "redis://host?socket_timeout=60&socket_connect_timeout=1",
        ),
    ],
)
def test_a_redis_that_does_not_answer_is_given_up_within_seconds_unless_its_url_says_otherwise(
    given: str, opened: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls: list[str] = []
    monkeypatch.setattr("infertune.search.storage.JournalRedisBackend", urls.append)
    monkeypatch.setattr("infertune.search.storage.JournalStorage", lambda backend: backend)
    open_storage(given)
    assert urls == [opened]
