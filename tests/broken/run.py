"""Break the package on purpose, one build at a time, and see which test finds it out.

    $ python tests/broken/run.py [NAME…]

Each ``*.patch`` beside this file says in its first line what it breaks and in its second which test must find it.
The package is copied into a folder of its own, the patch is applied there, and the test runs there, against the
copy. First the same tests run in a copy that is not broken, where they must pass. Prints a Markdown table; exits
with 1 when a build was not found out, a test does not pass on the sound copy, or a patch no longer applies.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

#: What a test needs of the project.
_COPIED = ("flask_accountflow", "example_app", "tests", "pyproject.toml", "setup.cfg")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "instance", "golden", ".*")
_OPTIONS = ("-q", "-rA", "--tb=no", "--show-capture=no", "-p", "no:cacheprovider")
#: Seconds for a test and its servers. The slowest waits 20 for a mail, and the machine may be busy.
_PATIENCE = 90
_RESULT = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED)\s+(\S+)", re.MULTILINE)

FOUND, MISSED = "found", "**not found**"


@dataclass(frozen=True)
class Build:
    """A way to break the package."""

    name: str
    patch: Path
    broken: str
    test: str


class Trouble(Exception):
    """Nothing can be said about a build; the message says why and what to do."""


def builds(names: Sequence[str] = ()) -> list[Build]:
    """Return the builds of these names, or all. Raises :exc:`Trouble` for a name that is none."""
    found = {path.stem: _read(path) for path in sorted(HERE.glob("*.patch"))}
    unknown = sorted(set(names) - found.keys())
    if unknown:
        raise Trouble(f"No build is called {', '.join(unknown)}. There are: {', '.join(found)}.")
    return [found[name] for name in names] if names else list(found.values())


def _read(path: Path) -> Build:
    said = dict(line.partition(": ")[::2] for line in path.read_text(encoding="utf-8").splitlines()[:2])
    try:
        return Build(path.stem, path, said["Broken"], said["Found by"])
    except KeyError as error:
        raise Trouble(
            f"{path.name} has no line {error}; its first two lines begin with 'Broken: ' and 'Found by: '."
        ) from None


@contextmanager
def copy_of_the_package(copied: Sequence[str] = _COPIED) -> Iterator[Path]:
    """Yield a folder with a copy of what the tests need, or of a part of it."""
    with tempfile.TemporaryDirectory(prefix="accountflow-broken-") as folder:
        root = Path(folder).resolve()
        for name in copied:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name, ignore=_LEFT_OUT)
            else:
                shutil.copy2(ROOT / name, root / name)
        yield root


def apply(build: Build, root: Path) -> None:
    """Break the copy in ``root``. Raises :exc:`Trouble` when the patch no longer fits."""
    # Git would look for a repository above, and take paths relative to that one.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)}
    line = ["git", "apply", "--whitespace=nowarn", str(build.patch)]
    done = subprocess.run(line, cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Trouble(
            f"{build.patch.name} does not apply to the package any more. Rebase it: break a copy again "
            f"in the same way, and keep the difference. git said:\n{done.stderr}"
        )


def run_tests(root: Path, tests: Sequence[str]) -> dict[str, str]:
    """Run tests against the copy in ``root`` and return each one's result. Raises :exc:`Trouble` when none can run."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    asked = [sys.executable, "-c", "import flask_accountflow as package; print(package.__file__)"]
    place = subprocess.run(asked, cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if not place.stdout.startswith(str(root)):
        raise Trouble(f"Python does not import the copy in {root}, but {place.stdout or place.stderr}")
    line = [sys.executable, "-m", "pytest", *_OPTIONS, *tests]
    with subprocess.Popen(
        line, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        try:
            printed, _ = running.communicate(timeout=_PATIENCE * (1 + len(tests)))
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)  # so that it ends its servers
            running.communicate()
            raise Trouble(f"{' '.join(tests)} did not end.") from None
    results = {test: result for result, test in _RESULT.findall(printed)}
    if not results:
        raise Trouble(f"No test ran:\n{printed[-4000:]}")
    return results


def check_sound(chosen: Sequence[Build]) -> None:
    """Raise :exc:`Trouble` unless every named test passes on the package as it is."""
    tests = sorted({build.test for build in chosen})
    with copy_of_the_package() as root:
        results = run_tests(root, tests)
    red = [f"{test}: {results.get(test, 'did not run')}" for test in tests if results.get(test) != "PASSED"]
    if red:
        raise Trouble("These tests do not pass on the sound package, so they prove nothing:\n" + "\n".join(red))


def judge(build: Build) -> str:
    """Return whether the named test finds the build out."""
    with copy_of_the_package() as root:
        apply(build, root)
        result = run_tests(root, [build.test]).get(build.test, "did not run")
    # An error is no finding: a build that does not even start would have nothing to find.
    return FOUND if result == "FAILED" else f"{MISSED} ({result.lower()})"


def main(names: Sequence[str]) -> int:
    """Judge the builds of these names, or all; return the exit status."""
    try:
        chosen = builds(names)
        check_sound(chosen)
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    print("| build | what was broken | the test that turned red | result |\n|---|---|---|---|", flush=True)
    missed = 0
    for build in chosen:
        try:
            result = judge(build)
        except Trouble as trouble:
            print(trouble, file=sys.stderr)
            result = f"{MISSED} (see above)"
        missed += result != FOUND
        test = build.test.removeprefix("tests/")
        print(f"| {build.name} | {build.broken} | `{test}` | {result} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
