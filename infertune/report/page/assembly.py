"""A page in one file: its template filled in, with the style, the script and plotly.js inside it.

The script is written as small ECMAScript modules (`script/`). A page that opens offline cannot import them, so they
are put together here, each after those that it imports, as one module.
"""

import base64
import re
import zlib
from functools import lru_cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from infertune.units import format_percent, printable

_STYLES = ("colours.css", "elements.css", "tables.css", "parts.css", "screens.css")  # a later rule wins
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function |const )", re.MULTILINE)
_UNKNOWN = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def render(template: str, **values: object) -> str:
    """A page from its template, with the style that all pages share."""
    environment = Environment(
        loader=PackageLoader("infertune.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": format_percent, "code": code, "prose": prose, "breakable": breakable}
    return environment.get_template(template).render(css=style(), **values)


def style() -> str:
    """The style sheet."""
    return "\n".join(_asset(f"style/{name}") for name in _STYLES)


def script(entry: str = "main.js") -> str:
    """The page's script: a module and everything that it imports, as one module.

    Raises:
        ValueError: A file imports or exports in a form that cannot be put together.
    """
    ordered: dict[str, str] = {}

    def add(name: str) -> None:
        if name in ordered:
            return
        source = _asset(f"script/{name}")
        for imported in _IMPORT.findall(source):
            add(imported)
        ordered[name] = _EXPORT.sub("", _IMPORT.sub("", source)).strip()
        if unknown := _UNKNOWN.search(ordered[name]):
            raise ValueError(f'{name}: write `import {{ a }} from "./b.js"` and `export const`, not {unknown[0]!r}')

    add(entry)
    return "\n\n".join(f"// ---- {name}\n{text}" for name, text in ordered.items())


@lru_cache(maxsize=1)
def plotly() -> str:
    """plotly.js, deflated, as base64 text."""
    return base64.b64encode(zlib.compress(get_plotlyjs().encode(), 9)).decode()


def visible(value: object) -> object:
    """What a template shows of a value: of a text, its printable characters, line by line."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "\n".join(printable(line.expandtabs(4)) for line in value.splitlines())


def code(name: object) -> Markup:
    """A name as code; a line may break after its underscores, dashes and slashes."""
    return Markup("<code>{}</code>").format(breakable(name))


def breakable(text: object) -> Markup:
    """Text in which a line may break after underscores, dashes and slashes."""
    shown = escape(visible(str(text)))
    for mark in "_-/":
        shown = shown.replace(mark, Markup(f"{mark}<wbr>"))
    return shown


def prose(text: str) -> Markup:
    """A sentence; text between backticks becomes code."""
    parts = text.split("`")
    return Markup("").join(code(part) if n % 2 else escape(visible(part)) for n, part in enumerate(parts))


def _asset(name: str) -> str:
    return (files("infertune.report.page") / name).read_text(encoding="utf-8")
