"""The structure of DESIGN.md: an import only goes down, and a few libraries have one importer."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "infertune"
LAYERS = {
    1: {"stats", "errors", "units", "interpreter", "documents", "verdict"},
    2: {"knobs", "workload", "measurement", "device", "models", "architectures", "request"},
    3: {"trial", "energy", "figures", "roofline"},
    4: {"engines", "isolation", "channel", "ledger", "objective"},
    5: {
        "measure",
        "bench",
        "search",
        "summary",
        "profile",
        "report",
        "job",
        "observer",
        "doctor",
        "landscape",
        "afterwards",
        "budget",
        "phases",
        "origin",
        "fingerprint",
        "shelf",
        "comparing",
        "sides",
        "gate_result",
    },
    6: {"tune", "sweep", "gate", "worker"},
    7: {"cli", "terminal", "terminal_profiles", "terminal_gate", "__main__"},
}
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
    "rich": {"cli", "terminal", "terminal_profiles", "terminal_gate"},
}


def _modules() -> dict[str, list[Path]]:
    """Top-level module → its files; the package's own `__init__` belongs to no layer."""
    found: dict[str, list[Path]] = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, []).append(path)
    return found


def _imports(path: Path) -> set[str]:
    """Every dotted name that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "infertune":
                names.update(f"infertune.{alias.name}" for alias in node.names)
    return names


def test_every_module_has_a_layer() -> None:
    assert set(_modules()) == set().union(*LAYERS.values())


def test_an_import_only_goes_down() -> None:
    layer = {name: number for number, names in LAYERS.items() for name in names}
    upward = [
        f"{path.relative_to(PACKAGE)} (L{layer[module]}) imports {name} (L{layer[target]})"
        for module, paths in _modules().items()
        for path in paths
        for name in _imports(path)
        if name.startswith("infertune.") and (target := name.split(".")[1]) in layer and layer[target] > layer[module]
    ]
    assert upward == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = {
        module: {n.split(".")[1] for p in paths for n in _imports(p) if n.startswith("infertune.")} - {module}
        for module, paths in _modules().items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail, module))
        if module not in done:
            for target in graph.get(module, ()):
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


def test_engine_names_stand_nowhere_outside_engines() -> None:
    names = {"vllm", "hf", "fake", "replay"}
    strays = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for module, paths in _modules().items()
        if module != "engines"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert strays == []


def test_no_file_is_much_longer_than_400_lines() -> None:
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 420}
    assert long == {}


def test_the_parent_never_imports_an_engine() -> None:
    script = (
        "import sys, infertune.cli, infertune.tune, infertune.sweep, infertune.gate, infertune.doctor\n"
        "import infertune.terminal, infertune.terminal_gate\n"
        "from infertune.doctor import diagnose\n"
        "diagnose()\n"
        "print(sorted({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
