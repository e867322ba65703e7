"""The command that copies templates into the app, to be changed there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from textwrap import fill
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext

from ..web.templates import DEFAULT, FOLDER, NAMES, blocks_of
from .group import accountflow

_OURS = FOLDER / NAMES
#: The endings of one template, longest first: a mail's subject is a text, too.
_ENDINGS = (".subject.txt", ".html", ".txt")
#: The head of what is built from MJML, which an app does not have.
_BUILT = "{# Built from "
_ADVICE = """\
  A block that is written below takes the place of ours, and super() in it is what it was.
  All else stays as it is, and follows when flask-accountflow is upgraded."""


@accountflow.command("copy-templates")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--to", "folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Instead of the app's own."
)
@click.option("--extend", is_flag=True, help="Write small files that extend ours, to change single blocks.")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@with_appcontext
def copy_templates(names: tuple[str, ...], folder: Path | None, extend: bool, force: bool) -> None:
    """Copy pages and mails (login, mail/verify; else all) into the template folder of the app."""
    known = _known()
    chosen = dict.fromkeys(_chosen(name, known) for name in names) if names else known
    files = [file for name in chosen for file in known[name]]
    if extend:
        files = list(_with_blocks(files))
    target = folder if folder is not None else _own_folder()
    try:
        kept = [
            file for file in files if not _write(target / NAMES / file, _stub(file) if extend else _copy(file), force)
        ]
    except OSError as error:
        raise click.ClickException(f"{error.filename} cannot be written: {error.strerror}.") from None
    if not all(_is_read(target / NAMES / file, file) for file in files):
        click.echo(f"hint: The app takes its templates from elsewhere. Let it look in {target} first.")
    if kept or not files:
        raise click.exceptions.Exit(1)


def _known() -> dict[str, list[str]]:
    """Return the files of each template by its name, such as mail/verify; not the pages of development."""
    found: dict[str, list[str]] = {}
    for path in sorted(_OURS.rglob("*")):
        ending = next((ending for ending in _ENDINGS if path.name.endswith(ending)), None)
        if ending is not None and not path.name.startswith("dev_"):
            file = path.relative_to(_OURS).as_posix()
            found.setdefault(file.removesuffix(ending), []).append(file)
    return found


def _chosen(name: str, known: Iterable[str]) -> str:
    """Return the name of a template, which may be given as that of a file: login.html, accountflow/login."""
    wanted = name.removeprefix(NAMES)
    wanted = next((wanted.removesuffix(ending) for ending in _ENDINGS if wanted.endswith(ending)), wanted)
    if wanted in known:
        return wanted
    near = get_close_matches(wanted, known, n=1, cutoff=0)
    raise click.BadParameter(f"There is no template {name}. Did you mean {near[0]}?", param_hint="'[NAME]...'")


def _with_blocks(files: Iterable[str]) -> Iterator[str]:
    for file in files:
        if blocks_of(file):
            yield file
        else:
            click.echo(f"{file} has no block to change. Copy it whole.")


def _own_folder() -> Path:
    if current_app.template_folder is None:
        raise click.UsageError("This app has no template folder. Name one with --to.")
    return Path(current_app.root_path, current_app.template_folder)


def _write(path: Path, text: str, force: bool) -> bool:
    """Write a file and say so; False where there is one that is to stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        click.echo(f"There already: {path}. Give --force to overwrite it.")
        return False
    click.echo(f"Wrote {path}")
    return True


def _is_read(path: Path, file: str) -> bool:
    """Tell whether the app takes one of the names of ours from this file."""
    environment: Any = current_app.jinja_env
    _, filename, _ = environment.loader.get_source(environment, NAMES + file)
    return filename is not None and Path(filename).resolve() == path.resolve()


def _copy(file: str) -> str:
    """Return one of our files, without the line that says how we build it."""
    lines = (_OURS / file).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(lines[1:] if lines[0].startswith(_BUILT) else lines)


def _stub(file: str) -> str:
    """Return a file that extends ours, in the signs that this app writes its templates with."""
    signs = current_app.jinja_env
    blocks = fill(f"Blocks: {', '.join(blocks_of(file))}.", 100, initial_indent="  ", subsequent_indent="  ")
    return (
        f"{signs.comment_start_string}\n{_ADVICE}\n{blocks}\n-{signs.comment_end_string}\n"
        f'{signs.block_start_string} extends "{DEFAULT}{file}" {signs.block_end_string}\n'
    )
