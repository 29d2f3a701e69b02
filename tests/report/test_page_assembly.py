"""The report page's script: modules that a linter and an editor understand, put together as one for a single file."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from infertune.report.page import assembly

PAGE = Path(str(files("infertune.report.page")))
MODULES = sorted((PAGE / "script").glob("*.js"))
DECLARED = re.compile(r"^(?:export )?(?:async )?(?:const|let|function) (\w+)", re.MULTILINE)


def test_every_module_is_in_the_script_once_after_those_that_it_imports() -> None:
    joined = assembly.script()
    order = re.findall(r"^// ---- (\w+\.js)$", joined, re.MULTILINE)
    assert sorted(order) == [path.name for path in MODULES]
    for path in MODULES:
        for imported in re.findall(r'from "\./(\w+\.js)"', path.read_text()):
            assert order.index(imported) < order.index(path.name)
    assert not re.search(r"^(import|export)\b", joined, re.MULTILINE)


def test_no_two_modules_declare_the_same_name() -> None:
    """They share one scope on the page, where a name that is declared twice is a syntax error."""
    names = [name for path in MODULES for name in DECLARED.findall(path.read_text())]
    assert len(names) > 50
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("line", ['import x from "./data.js";', 'export { x } from "./data.js";', "export default 1;"])
def test_what_cannot_be_put_together_is_refused(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "_asset", lambda name: f"const a = 1;\n{line}\n")
    with pytest.raises(ValueError, match="main.js: write"):
        assembly.script()


def test_nothing_in_script_or_style_ends_its_element() -> None:
    assert "</script" not in assembly.script().lower() and "<!--" not in assembly.script()
    assert "</style" not in assembly.style().lower()


def test_every_style_sheet_is_in_the_style() -> None:
    for path in (PAGE / "style").glob("*.css"):
        assert path.read_text() in assembly.style()


def test_script_and_style_are_short_lines_in_short_files() -> None:
    for path in [*MODULES, *(PAGE / "style").glob("*.css")]:
        lines = path.read_text().splitlines()
        assert len(lines) <= 400 and max(map(len, lines)) <= 120, path.name
