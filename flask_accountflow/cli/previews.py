"""The command that writes previews of the mails to files."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext

from ..languages import LANGUAGES
from ..mail.letter import message_bytes
from ..web.previews import Preview, Previews
from .group import accountflow, services_now


@accountflow.command("preview-mails")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--mail", "names", metavar="NAME", multiple=True, help="Only this mail; may be given again.")
@click.option(
    "--locale", "locales", type=click.Choice(LANGUAGES), multiple=True, help="Only this language; may be given again."
)
@with_appcontext
def preview_mails(folder: Path, names: tuple[str, ...], locales: tuple[str, ...]) -> None:
    """Write every mail in every language, filled with samples, and an index.html that shows them."""
    previews: Previews = current_app.extensions["accountflow_previews"]
    known = previews.names()
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise click.BadParameter(f"There is no mail {unknown[0]}. There are {', '.join(known)}.", param_hint="'--mail'")
    chosen = [name for name in known if name in names] if names else known
    wanted = [
        previews.show(name, locale) for name in chosen for locale in LANGUAGES if not locales or locale in locales
    ]
    try:
        _write(folder, wanted)
    except OSError as error:
        raise click.ClickException(f"{error.filename} cannot be written: {error.strerror}.") from None
    faulty = [preview for preview in wanted if preview.fault is not None]
    for preview in faulty:
        click.echo(f"fault: The mail {preview.name} in {preview.locale}: {preview.fault}.")
    click.echo(f"{len(wanted) - len(faulty)} of {len(wanted)} mails are in order. See {folder / 'index.html'}.")
    if faulty:
        raise click.exceptions.Exit(1)


def _write(folder: Path, previews: list[Preview]) -> None:
    """Write the files. Each has its name from the mail and the language; what else is in the folder stays."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_write_one(folder, preview) for preview in previews]
    mails = [(name, list(group)) for name, group in groupby(rows, lambda row: row["name"])]
    index = current_app.jinja_env.get_template("accountflow/dev_files.html")
    text = index.render(site_name=services_now().settings.site_name, mails=mails)
    (folder / "index.html").write_text(text, encoding="utf-8", newline="\n")


def _write_one(folder: Path, preview: Preview) -> dict[str, Any]:
    """Write the files of one mail, and return what the index shows of it."""
    row = {"name": preview.name, "locale": preview.locale, "fault": preview.fault, "letter": preview.letter}
    if preview.letter is None:
        return row
    file, message = f"{preview.name}.{preview.locale}", message_bytes(preview.letter)
    (folder / f"{file}.html").write_text(preview.letter.html, encoding="utf-8", newline="\n")
    (folder / f"{file}.txt").write_text(preview.letter.text, encoding="utf-8", newline="\n")
    (folder / f"{file}.eml").write_bytes(message)
    return {**row, "file": file, "size": len(message)}
