"""Writing files: whole or not at all, and never to a place that somebody else chose.

There are two kinds of places:

- Inside a folder that infertune fills: a run's folder, the folder of profiles, a gate's history, the cache. A run may
  come from a stranger, so nothing below such a folder is written, replaced or deleted through a link. A name that is
  taken by anything but a regular file is refused.
- A file that the user names, such as `--out FILE`. It is treated as by any program: a link is followed to a regular
  file, a pipe or terminal is written to, a folder is refused. Disks and sockets are refused too.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from infertune.errors import UsageError

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OWN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK the opening of a pipe would wait for its other end.
_APPEND = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def write_inside(folder: Path, name: str, text: str, what: str) -> Path:
    """Write a file inside a folder that infertune fills, whole or not at all; missing folders are made.

    Args:
        folder: The folder; it may itself be reached through links, since the user named it.
        name: The file's path below it, such as "pictures/answer.svg".
        text: Its content.
        what: What the file is, for the message: "report".

    Returns:
        The file's path.

    Raises:
        UsageError: It cannot be written, or the way to it leads through a link or to something else than a file.
    """
    path = folder / name
    with _one_line(path, what), _open_folder(folder, Path(name).parts[:-1], what) as descriptor:
        _replace(descriptor, path, text, what)
    return path


def check_inside(folder: Path, names: Sequence[str], what: str) -> None:
    """Refuse what `write_inside` would refuse, before anything is written.

    Args:
        folder: The folder; it need not exist.
        names: Paths below it that are going to be written.
        what: What the files are, for the message.

    Raises:
        UsageError: A name is taken by a link or by anything else that is no regular file.
    """
    for name in names:
        file = folder / name
        for at in (*reversed([parent for parent in file.parents if parent.is_relative_to(folder)][:-1]), file):
            try:
                mode = os.lstat(at).st_mode
            except OSError:  # missing, or not to be seen: writing says so
                break
            if not (stat.S_ISREG(mode) if at == file else stat.S_ISDIR(mode)):
                raise UsageError(_refusal(at, what, mode))


def remove_inside(folder: Path, name: str) -> None:
    """Remove a regular file inside a folder that infertune fills; anything else of that name is left alone."""
    with (
        contextlib.suppress(OSError, UsageError),
        _open_folder(folder, Path(name).parts[:-1], "file", make=False) as parent,
    ):
        last = Path(name).name
        if stat.S_ISREG(os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(last, dir_fd=parent)


def open_to_append(folder: Path, name: str, what: str, *, make: bool) -> int:
    """Open a file inside a folder that infertune fills, to append to it.

    A file with a second name (a hard link) is refused: the other name may be a file that nobody meant to change.

    Args:
        folder: The folder.
        name: The file's path below it.
        what: What the file is, for the message.
        make: Make the file, and folders below `folder`, where they are missing.

    Returns:
        A file descriptor that its caller closes; child processes do not inherit it.

    Raises:
        UsageError: It cannot be opened, or the way to it leads through a link or to something else than a file.
    """
    path = folder / name
    with _one_line(path, what), _open_folder(folder, Path(name).parts[:-1], what, make=make) as parent:
        _mode_of_regular(parent, path, what)
        descriptor = os.open(path.name, _APPEND | (os.O_CREAT if make else 0), 0o666, dir_fd=parent)
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            return descriptor
        os.close(descriptor)
        if stat.S_ISREG(found.st_mode):
            raise UsageError(f"cannot write {what} {path}: the file has {found.st_nlink} names (hard links); copy it")
        raise UsageError(_refusal(path, what, found.st_mode))


def append_whole(descriptor: int, data: bytes) -> None:
    """Append to an open file and sync it, whole or not at all.

    Raises:
        OSError: The disk refused; the file is as long as before.
    """
    length = os.fstat(descriptor).st_size
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    except BaseException:
        os.ftruncate(descriptor, length)
        raise


def write_named(path: Path, text: str, what: str) -> Path:
    """Write the file that the user named; a regular file is replaced whole or not at all and keeps its mode.

    Args:
        path: The file; missing folders are made.
        text: Its content.
        what: What the file is, for the message.

    Raises:
        UsageError: It cannot be written, is a folder, a disk or a socket, or a pipe that nobody reads.
    """
    with _one_line(path, what):
        found = _stat(path)
        if found and (stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode)):
            _pour(path, text, what)
            return path
        check_named(path, what)
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _replace(descriptor, target, text, what)
        finally:
            os.close(descriptor)
    return path


def check_named(path: Path, what: str, *, regular: bool = False) -> None:
    """Refuse what `write_named` would refuse, before there is anything to write; makes missing folders.

    Args:
        path: The file.
        what: What it is going to be, for the message.
        regular: Refuse pipes and terminals too.

    Raises:
        UsageError: It cannot be written, or is a folder, a disk or a socket.
    """
    with _one_line(path, what):
        found = _stat(path)
        mode = found.st_mode if found else stat.S_IFREG
        stream = stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
        if not stat.S_ISREG(mode) and (regular or not stream):
            raise UsageError(f"cannot write {what} {path}: it is no regular file but {_kind(mode)}; choose another")
        if stat.S_ISREG(mode):
            parent = Path(os.path.realpath(path)).parent
            parent.mkdir(parents=True, exist_ok=True)
            if not os.access(parent, os.W_OK | os.X_OK):
                raise UsageError(f"cannot write {what} {path}: Permission denied")


def append_named(path: Path, text: str, what: str) -> None:
    """Append to the regular file that the user or a CI system named; it is made where it is missing.

    Raises:
        UsageError: It cannot be written, or is no regular file.
    """
    with _one_line(path, what):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with open(os.open(path, flags, 0o666), "wb") as file:
            if not stat.S_ISREG(mode := os.fstat(file.fileno()).st_mode):
                raise UsageError(f"cannot write {what} {path}: it is {_kind(mode)}")
            file.write(_bytes(text))


@contextlib.contextmanager
def _one_line(path: Path, what: str) -> Iterator[None]:
    """Turn what the system says into an error of one line."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {what} {path}: {error.strerror or error}") from None
    except ValueError as error:  # a name with a NUL in it
        raise UsageError(f"cannot write {what} {str(path)!r}: {error}") from None


@contextlib.contextmanager
def _open_folder(folder: Path, below: Sequence[str], what: str, *, make: bool = True) -> Iterator[int]:
    """A descriptor of a folder, or of one below it that is reached without any link."""
    if make:
        folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        at = folder
        for part in below:
            at = at / part
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)
            mode = os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode
            if not stat.S_ISDIR(mode):
                raise UsageError(_refusal(at, what, mode))
            inner = os.open(part, _OWN_FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _replace(folder: int, path: Path, text: str, what: str) -> None:
    """Put a file in place of a regular file or of nothing, by a draft beside it that is renamed.

    The rename replaces the name, whatever it has become by then: nothing is ever written through it.
    """
    mode = _mode_of_regular(folder, path, what)
    draft = f".infertune-{secrets.token_hex(8)}.draft"  # nobody can be there before us
    descriptor = os.open(draft, _NEW_FILE, 0o666, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, stat.S_IMODE(mode) & 0o777)
            file.write(_bytes(text))
        os.replace(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft, dir_fd=folder)
        raise


def _pour(path: Path, text: str, what: str) -> None:
    """Write into a pipe or a character device; a pipe without a reader is an error, not a wait without end."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise UsageError(f"cannot write {what} {path}: nobody reads this pipe") from None
        raise
    with open(descriptor, "wb") as file:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            raise UsageError(_refusal(path, what, mode))
        os.set_blocking(descriptor, True)
        file.write(_bytes(text))


def _mode_of_regular(folder: int, path: Path, what: str) -> int | None:
    """The mode of the regular file that has a name in a folder; None where nothing has it.

    Raises:
        UsageError: Something else has it.
    """
    try:
        mode = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise UsageError(_refusal(path, what, mode))
    return mode


def _stat(path: Path) -> os.stat_result | None:
    """What a path leads to, links followed; None where nothing is yet."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _refusal(path: Path, what: str, mode: int) -> str:
    return f"cannot write {what} {path}: it is {_kind(mode)}; remove it or choose another place"


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISREG, "a file"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISLNK, "a link"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for is_kind, name in kinds if is_kind(mode)), "a device")


def _bytes(text: str) -> bytes:
    """UTF-8; half a character, which no encoding has, is written as its escape."""
    return text.encode("utf-8", "backslashreplace")
