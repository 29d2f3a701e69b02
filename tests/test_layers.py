"""The structure of DESIGN.md: an import only goes down, and a few libraries have one importer."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "infertune"
# From the top of the imports to the bottom: a folder imports from itself and from those below it. Those of one line
# stand beside each other and do not import each other.
TOWER: tuple[frozenset[str], ...] = (
    frozenset({"__main__"}),
    frozenset({"cli"}),
    frozenset({"tuning"}),
    frozenset({"report"}),
    frozenset({"gating"}),
    frozenset({"profiles"}),
    frozenset({"runs"}),
    frozenset({"bench"}),
    frozenset({"engines"}),
    frozenset({"energy", "landscape", "search"}),
    frozenset({"domain"}),
    frozenset({"documents", "sequential", "writing"}),
    frozenset({"errors", "stats", "units", "version"}),
)
LEAVES = {"documents", "errors", "sequential", "stats", "units", "version", "writing"}
ONLY_IMPORTERS = {
    "optuna": {"search"},
    "pynvml": {"energy"},
    "codecarbon": {"energy"},
    "torch": {"engines"},
    "transformers": {"engines"},
    "vllm": {"engines"},
    "plotly": {"report"},
    "jinja2": {"report"},
    "typer": {"cli"},
    "rich": {"cli"},
    "ray": {"bench"},
}


def _modules() -> dict[str, list[Path]]:
    """Folder or leaf → its files; the package's own `__init__` belongs to no level."""
    found: dict[str, list[Path]] = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, []).append(path)
    return found


def _imports(path: Path) -> set[str]:
    """Every dotted name that a file imports, wherever in it: of `from a.b import c`, `a.b.c`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_every_module_has_a_place_in_the_tower() -> None:
    assert set(_modules()) == frozenset().union(*TOWER)


def test_a_file_at_the_top_is_a_leaf() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"} == LEAVES


def test_an_import_only_goes_down() -> None:
    level = {name: number for number, names in enumerate(TOWER) for name in names}
    upward = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for module, paths in _modules().items()
        for path in paths
        for name in _imports(path)
        if name.startswith("infertune.") and (target := name.split(".")[1]) != module
        if target not in level or level[target] <= level[module]
    ]
    assert upward == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """File by file, so inside a folder too; an `__init__` stands for its folder."""
    names = {
        ".".join(("infertune", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "__init__.py"
    }

    def home(name: str) -> str:
        """The file of an imported name: a module of that name, else the one that it is imported from."""
        return name if name in names else name.rpartition(".")[0]

    graph = {name: {home(found) for found in _imports(path)} & set(names) - {name} for name, path in names.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail, module))
        if module not in done:
            for target in graph[module]:
                visit(target, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_some_libraries_have_one_importer() -> None:
    strays = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for module, paths in _modules().items()
        for path in paths
        for name in _imports(path)
        if (library := name.split(".")[0]) in ONLY_IMPORTERS and module not in ONLY_IMPORTERS[library]
    ]
    assert strays == []


def test_ray_is_imported_in_one_file() -> None:
    importers = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "ray" for name in _imports(path))
    ]
    assert importers == ["bench/remote/cluster.py"]


def test_engine_names_stand_nowhere_outside_engines() -> None:
    names = {"vllm", "vllm-serve", "hf", "llamacpp", "sglang", "target", "fake", "replay"}
    strays = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for module, paths in _modules().items()
        if module != "engines"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert strays == []


_WRITERS = {"write_text", "write_bytes", "unlink", "rmtree", "rename", "replace", "symlink_to", "savefig", "to_json"}
_MAY_WRITE = {
    "writing.py": "it is the one place",
    "engines/interpreter.py": "a link in a fresh folder of its own",
    "engines/sizes/child.py": "a file in a fresh folder of its own",
}


def _writes(node: ast.AST) -> bool:
    """Whether a call writes a file by itself: of `replace` and `to_csv`, only the ones of paths."""
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name == "open" and "open_to_append(" in ast.unparse(node):  # a descriptor that was opened there
        return False
    given = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
    if name == "open":
        return any(isinstance(mode, str) and 0 < len(mode) < 4 and set(mode) & set("wax") for mode in given)
    if name in ("replace", "rename"):
        return len(node.args) == 1 and not node.keywords
    return name in _WRITERS or (name == "to_csv" and bool(node.args))


def test_files_are_written_in_one_place() -> None:
    """So that none is written through a link: see `infertune.writing`."""
    strays = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        if str(path.relative_to(PACKAGE)) not in _MAY_WRITE
        for node in ast.walk(ast.parse(path.read_text()))
        if _writes(node)
    ]
    assert strays == []


def test_no_file_is_much_longer_than_400_lines() -> None:
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 420}
    assert long == {}


def test_the_parent_never_imports_an_engine() -> None:
    script = (
        "import sys, infertune.cli.doctor, infertune.tuning.tune, infertune.tuning.sweep, infertune.gating.gate\n"
        "import infertune.cli.terminal, infertune.cli.terminal_gate\n"
        "from infertune.cli.doctor import diagnose\n"
        "diagnose()\n"
        "print(sorted({'torch', 'transformers', 'vllm', 'ray'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
