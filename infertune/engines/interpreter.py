"""Running this package's worker under another Python interpreter."""

import tempfile
from pathlib import Path


def package_link() -> tempfile.TemporaryDirectory[str]:
    """A folder that holds nothing but this package, for another interpreter's path: none of our libraries leak in."""
    folder = tempfile.TemporaryDirectory(prefix="infertune-")
    (Path(folder.name) / "infertune").symlink_to(Path(__file__).parent.parent, target_is_directory=True)
    return folder
