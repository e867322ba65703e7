"""Where templates are found: the app's first, ours after all of them, and ours alone as ``accountflow/default/…``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from types import CodeType
from typing import Any, cast

from jinja2 import (
    BaseLoader,
    Environment,
    FileSystemLoader,
    Template,
    TemplateNotFound,
    TemplateSyntaxError,
    defaults,
    nodes,
)

FOLDER = Path(__file__).parent.parent / "templates"
NAMES, DEFAULT = "accountflow/", "accountflow/default/"

#: What our files are written in. An app may have other signs, or cut white space off, by its ``jinja_options``.
_SYNTAX = {
    name.lower(): getattr(defaults, name)
    for name in (
        "BLOCK_START_STRING",
        "BLOCK_END_STRING",
        "VARIABLE_START_STRING",
        "VARIABLE_END_STRING",
        "COMMENT_START_STRING",
        "COMMENT_END_STRING",
        "LINE_STATEMENT_PREFIX",
        "LINE_COMMENT_PREFIX",
        "TRIM_BLOCKS",
        "LSTRIP_BLOCKS",
        "NEWLINE_SEQUENCE",
        "KEEP_TRAILING_NEWLINE",
    )
}

Source = tuple[str, str | None, Callable[[], bool] | None]


def install(environment: Environment) -> None:
    """Let the templates of an app find ours, and escape by the kind of file whatever the app does elsewhere."""
    # Around the whole: what a blueprint registered after us has under one of our names comes before ours, too.
    environment.loader = Templates(cast(BaseLoader, environment.loader))
    environment.autoescape = _escapes(environment.autoescape)


def blocks_of(file: str) -> list[str]:
    """Return the blocks of one of our files: its own, then those of what it extends, in their order."""
    tree = Environment().parse((FOLDER / NAMES / file).read_text(encoding="utf-8"))
    blocks = [block.name for block in tree.find_all(nodes.Block)]
    for parent, _ in _asked_for(tree, nodes.Extends):
        blocks += blocks_of(parent.removeprefix(NAMES))
    return list(dict.fromkeys(blocks))


class Templates(BaseLoader):
    """The templates of an app, and ours for what it has none of. ``accountflow/default/…`` is always ours."""

    def __init__(self, theirs: BaseLoader) -> None:
        self._theirs = theirs
        self._ours = _Ours(theirs)

    def load(self, environment: Environment, name: str, globals: MutableMapping[str, Any] | None = None) -> Template:
        """Return a template."""
        if name.startswith(DEFAULT):
            return self._ours.load(environment, name, globals)
        try:
            template = self._theirs.load(environment, name, globals)
        except TemplateNotFound:
            return self._ours.load(environment, name, globals)
        if name.startswith(NAMES):
            _refuse_circle(environment, name, _source(self._theirs, environment, name))
        return template

    def get_source(self, environment: Environment, template: str) -> Source:
        """Return the text of a template."""
        if not template.startswith(DEFAULT):
            found = _source(self._theirs, environment, template)
            if found is not None:
                return found
        return self._ours.get_source(environment, template)

    def list_templates(self) -> list[str]:
        """Return the names of all templates."""
        return sorted({*self._theirs.list_templates(), *self._ours.list_templates()})


class _Ours(FileSystemLoader):
    """Our files, read as they are written: in the usual syntax."""

    def __init__(self, theirs: BaseLoader) -> None:
        super().__init__(FOLDER)
        self._theirs = theirs
        self._lock = threading.Lock()
        self._compiled: dict[str, tuple[Environment, str, CodeType]] = {}

    def load(self, environment: Environment, name: str, globals: MutableMapping[str, Any] | None = None) -> Template:
        """Return a template that runs in the app's environment, as it extends and includes the app's."""
        is_usual = all(getattr(environment, option) == usual for option, usual in _SYNTAX.items())
        if is_usual and environment.bytecode_cache is not None:
            return super().load(environment, name, globals)
        source, filename, is_fresh = self.get_source(environment, name)
        # The threads of a server that has just started want the same templates at once. One compiles, for all of them:
        # each would take twice the time, and some megabytes that its part of the heap does not give back.
        with self._lock:
            made_for, made_of, code = self._compiled.get(name, (None, None, None))
            if code is None or made_for is not environment or made_of != source:
                syntax = environment if is_usual else environment.overlay(**_SYNTAX)
                code = syntax.compile(source, name, filename)
                self._compiled[name] = environment, source, code
        return environment.template_class.from_code(environment, code, globals or {}, is_fresh)

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Return the text of a template. It is fresh until the app has one in its place."""
        file = NAMES + template.removeprefix(DEFAULT) if template.startswith(DEFAULT) else template
        try:
            source, filename, is_fresh = super().get_source(environment, file)
        except TemplateNotFound:
            raise TemplateNotFound(template) from None  # without our folder, where the app's is not looked for
        if file != template:
            return source, filename, is_fresh
        return source, filename, lambda: is_fresh() and _source(self._theirs, environment, template) is None


def _source(loader: BaseLoader, environment: Environment, name: str) -> Source | None:
    """Return the text of a template; None where there is none, or only what was compiled from it."""
    try:
        return loader.get_source(environment, name)
    except (TemplateNotFound, RuntimeError):
        return None


def _refuse_circle(environment: Environment, name: str, source: Source | None) -> None:
    """Refuse a template of the app that is built on itself: it would end in a RecursionError, which says nothing."""
    if source is None:
        return
    text, filename, _ = source
    tree = environment.parse(text, name, filename)
    for wanted, line in _asked_for(tree, nodes.Extends, nodes.Import, nodes.FromImport):
        if wanted == name:
            instead = DEFAULT + name.removeprefix(NAMES)
            said = f'"{name}" asks for itself. For the one that it replaces, write "{instead}".'
            raise TemplateSyntaxError(said, line, name, filename)


def _asked_for(tree: nodes.Template, *kinds: type[nodes.Node]) -> Iterator[tuple[str, int]]:
    """Yield the names that stand in statements of these kinds, with their lines; not those that are computed."""
    for node in tree.find_all(kinds):
        wanted = cast(Any, node).template
        if isinstance(wanted, nodes.Const):
            yield wanted.value, node.lineno


def _escapes(chosen: bool | Callable[[str | None], bool]) -> Callable[[str | None], bool]:
    """Return how names decide about escaping: ours by their kind, since mails have parts of both; others as before."""

    def escapes(name: str | None) -> bool:
        if name is not None and name.startswith(NAMES):
            return name.endswith(".html")
        return chosen(name) if callable(chosen) else chosen

    return escapes
