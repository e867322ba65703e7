"""A process that asks for resets by a clock of its own: ``python cap_asker.py URI MOMENT THREADS``.

It says that it is ready. For each line that it reads, which is an address, all its threads ask at once, and
it prints when they have done so.
"""

from __future__ import annotations

import sys
from datetime import datetime
from functools import partial

from shop import at_once
from support import Site


def ask(site: Site, address: str) -> int:
    """Ask for a reset, as a program does."""
    return int(site.program().request_reset(email=address).status_code)


def main() -> None:
    """Ask, as long as there are lines to read."""
    uri, moment, threads = sys.argv[1:]
    site = Site(uri, {"ACCOUNTFLOW_MAIL_KICK": "worker"})
    site.clock.now = datetime.fromisoformat(moment)
    print("ready", flush=True)
    for line in sys.stdin:
        print(*at_once([partial(ask, site, line.strip())] * int(threads)), flush=True)
    site.close()


if __name__ == "__main__":
    main()
