"""Build the list of common passwords that new passwords are compared with.

``python tools/build_blocklist.py`` fetches two published lists with pip, in the versions that are pinned here,
and writes ``flask_accountflow/data/common_passwords.txt``. ``--check`` writes nothing, and exits with 1 when the
file differs.

The lists are those of zxcvbn (30,000 passwords) and of Django (20,000). Kept is what has 8 or more code points,
the least that ACCOUNTFLOW_PASSWORD_MIN_LENGTH allows.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "flask_accountflow" / "data" / "common_passwords.txt"

_MIN_LENGTH = 8
_ZXCVBN = "zxcvbn==4.5.0"
_DJANGO = "Django==5.2.8"
_HEAD = f"""# Passwords that many people have used, of {_MIN_LENGTH} or more code points, in lower case.
# From {_ZXCVBN} (MIT licence) and {_DJANGO} (BSD licence). Built by tools/build_blocklist.py.
"""


def build() -> str:
    """Return what the file should hold. Raises :exc:`subprocess.CalledProcessError` when pip cannot fetch the lists."""
    with tempfile.TemporaryDirectory() as folder:
        found = {*_of_zxcvbn(_fetch(_ZXCVBN, Path(folder))), *_of_django(_fetch(_DJANGO, Path(folder)))}
    folded = {unicodedata.normalize("NFC", word).casefold() for word in found}
    kept = sorted(word for word in folded if len(word) >= _MIN_LENGTH and word.isprintable())
    return _HEAD + "\n".join(kept) + "\n"


def _fetch(requirement: str, folder: Path) -> zipfile.ZipFile:
    line = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", requirement]
    subprocess.run([*line, "--python-version", "3.12", "--dest", str(folder)], check=True)
    [wheel] = folder.glob(f"{requirement.partition('==')[0].lower()}*.whl")
    return zipfile.ZipFile(wheel)


def _of_zxcvbn(wheel: zipfile.ZipFile) -> Iterable[str]:
    tree = ast.parse(wheel.read("zxcvbn/frequency_lists.py"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "passwords":
                    texts = (str(one.value) for one in ast.walk(value) if isinstance(one, ast.Constant))
                    return max(texts, key=len).split(",")
    raise SystemExit(f"{_ZXCVBN} has no list of passwords where it was expected.")


def _of_django(wheel: zipfile.ZipFile) -> Iterable[str]:
    return gzip.decompress(wheel.read("django/contrib/auth/common-passwords.txt.gz")).decode().split("\n")


def main() -> None:
    """Write the list, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the file differs")
    wanted = build()
    if parser.parse_args().check:
        sys.exit(0 if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == wanted else f"{TARGET} differs.")
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
