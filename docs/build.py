"""Build the documentation: the pages of this folder, and a reference of every public name.

`make docs`, or `python docs/build.py`; the result is docs/site/index.html. Needs the extra `docs`.
"""

import argparse
import importlib
import pathlib
import re
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import pdoc.doc
import pdoc.render
from reference import MODULES, TOPICS

import jaxrl as rl

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent
LINK = re.compile(r"(\]\(|src=\")([^)#\"]+)(#[^)\"]*)?")


def page(path: pathlib.Path, site: pathlib.Path) -> str:
    """The text of a page; its links lead to the built pages, its pictures to copies in `site`."""

    def link(match: re.Match[str]) -> str:
        start, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        file = (path.parent / target).resolve()
        if file.suffix == ".md" and file.parent == FOLDER:
            name = "index" if file.stem == "README" else file.stem
            return f"{start}{name}.html{anchor}"
        if file.suffix == ".png":
            (site / file.name).write_bytes(file.read_bytes())
            return f"{start}{file.name}"
        return f"{start}../{target}{anchor}"  # a file of the repository, beside docs/site

    return LINK.sub(link, path.read_text())


def preset_function(preset: rl.Preset) -> Callable[..., Any]:
    """A function with the documentation of a named algorithm: its fields, values and ranges."""

    def function(**fields: Any) -> Any:
        return preset(**fields)

    ranges = ranges_of(preset)
    rows = ["| field | value | range | meaning |", "| --- | --- | --- | --- |"]
    for name, value in preset.fields().items():
        meaning = preset.meaning(name).replace("|", "\\|")
        rows.append(f"| `{name}` | `{short(value)}` | {ranges[name]} | {meaning} |")
    parts = [f"{preset.summary}.", preset.details, "\n".join(rows)]
    function.__name__ = function.__qualname__ = preset.name
    function.__doc__ = "\n\n".join(part for part in parts if part)
    return function


def ranges_of(preset: rl.Preset) -> dict[str, str]:
    """The ranges of the fields of a named algorithm, and the values of its options."""
    found = rl.ranges(preset.value)
    ranges = {}
    for name in preset.fields():
        if name in preset.options:
            ranges[name] = " or ".join(f"`{value!r}`" for value in preset.options[name])
        else:
            path = rl.tree.find(preset.value, preset.aliases.get(name, (name,))[0])
            ranges[name] = found.get(path, "")
    return ranges


def short(value: Any) -> str:
    """A value as text on one line of a table."""
    text = re.sub(r"<\w+ (?:of <function )?([\w.<>]+) at 0x[0-9a-f]+>+", r"\1", repr(value))
    return (text if len(text) <= 32 else f"{text[:29]}...").replace("|", "\\|")


def topic(name: str, text: str, names: tuple[str, ...]) -> types.ModuleType:
    """A module with this text and these names of `rl`, which pdoc renders as one page."""
    module = types.ModuleType(name, text)
    module.__dict__["__all__"] = list(names)
    for public in names:
        value = getattr(rl, public)
        is_preset = isinstance(value, rl.Preset)
        module.__dict__[public] = preset_function(value) if is_preset else value
    return module


def loaded(name: str) -> types.ModuleType:
    """A module with all its public names, also those that it imports when they are used."""
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        vars(module)[public] = getattr(module, public)
    return module


def resolve_aliases() -> None:
    """Put types in the place of the aliases that are texts, so that importing them is light.

    pdoc would read such a text in the module that uses it, which may lack its names.
    """
    modules = [module for name, module in sys.modules.items() if name.startswith("jaxrl.")]
    aliases = {
        (name, vars(module)[name]): eval(vars(module)[name], vars(module))
        for module in modules
        for name, kind in vars(module).get("__annotations__", {}).items()
        if kind == "TypeAlias" and isinstance(vars(module)[name], str)
    }
    for module in modules:
        for (name, text), alias in aliases.items():
            if vars(module).get(name) == text:
                setattr(module, name, alias)


def contents(site: pathlib.Path) -> str:
    """The first page: the contents of the folder's README.md, then the reference."""
    lines = [page(FOLDER / "README.md", site), "## Reference", ""]
    lines += [
        f"- [{title}]({name}.html): {len(names)} names" for name, (title, names) in TOPICS.items()
    ]
    lines += [
        f"- [`{name.replace('jaxrl', 'rl')}`]({name.replace('.', '/')}.html): {what}"
        for name, what in MODULES.items()
    ]
    return "\n".join(lines)


def build(site: pathlib.Path) -> list[pathlib.Path]:
    """Write the documentation to the folder `site`; return its pages.

    Raises:
      Warning: anything that pdoc warns of.
    """
    site.mkdir(parents=True, exist_ok=True)
    texts = {path.stem: page(path, site) for path in sorted(FOLDER.glob("*.md"))}
    del texts["README"]
    modules = {"index": topic("index", contents(site), ())}
    for name, (title, names) in TOPICS.items():
        modules[name] = topic(name, texts.pop(name, f"# {title}\n"), names)
    modules |= {name: topic(name, text, ()) for name, text in texts.items()}
    modules |= {name: loaded(name) for name in MODULES}
    resolve_aliases()
    pdoc.render.configure(
        docformat="google", template_directory=FOLDER / "templates", footer_text="jaxrl"
    )
    written = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        documented = {name: pdoc.doc.Module(module) for name, module in modules.items()}
        for name, module in documented.items():
            path = site / f"{name.replace('.', '/')}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pdoc.render.html_module(module, all_modules=documented))
            written.append(path)
        (site / "search.js").write_text(pdoc.render.search_index(documented))
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the documentation.")
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER / "site")
    out = parser.parse_args().out
    print(f"{len(build(out))} pages; open {out / 'index.html'}")
