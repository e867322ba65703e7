"""Take a picture of every page and every mail, on a phone and on a desk, by day and by night, on one sheet.

``python tools/contact_sheet.py sheet.png`` writes the sheet; names of states (``tests/pages.py``) or of mails behind it
limit it to them. It needs what the tests need, and a Chromium: ``ACCOUNTFLOW_TEST_CHROMIUM`` says where it is.
"""

from __future__ import annotations

import argparse
import base64
import html
import importlib
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("tests", ".")]
pages: Any = importlib.import_module("pages")
places: Any = importlib.import_module("places")

#: Each width of a window, and the width of its picture on the sheet.
WIDTHS = {320: 160, 1280: 320}
SCHEMES = ("light", "dark")

_STYLE = f"""
body {{ margin: 16px; columns: 4; column-gap: 24px; background: #fff; color: #1b1f24; font: 13px/1.3 sans-serif; }}
figure {{ margin: 0 0 20px; break-inside: avoid; width: {2 * sum(WIDTHS.values()) + 24}px; }}
figcaption {{ margin-bottom: 4px; overflow-wrap: anywhere; }}
div {{ display: flex; gap: 8px; align-items: flex-start; }}
img {{ display: block; outline: 1px solid #c8cdd3; }}
"""

# Reduces a picture to its 256 most frequent colours. Of 26 million pixels Chromium makes that in seconds.
_REDUCE = """async picture => {
    const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${picture}`)).blob())
    const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d")
    canvas.drawImage(image, 0, 0)
    const pixels = new Uint32Array(canvas.getImageData(0, 0, image.width, image.height).data.buffer)

    const counts = new Map()
    for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1)
    const colours = [...counts].sort((one, other) => other[1] - one[1]).slice(0, 256).map(([colour]) => colour)
    const channels = colour => [colour & 255, colour >> 8 & 255, colour >> 16 & 255]
    const palette = colours.map(channels)
    const nearest = new Map([...counts.keys()].map(colour => {
        const [red, green, blue] = channels(colour)
        const distances = palette.map(([r, g, b]) => (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2)
        return [colour, distances.indexOf(Math.min(...distances))]
    }))

    const rows = new Uint8Array((image.width + 1) * image.height)  // each begins with the name of its filter: none
    pixels.forEach((colour, at) => { rows[at + Math.floor(at / image.width) + 1] = nearest.get(colour) })
    const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"))
    const reader = new FileReader()
    reader.readAsDataURL(await new Response(packed).blob())
    await new Promise(resolve => { reader.onload = resolve })
    return [image.width, image.height, palette.flat(), reader.result.split(",")[1]]
}"""


def shots(page: Page) -> str:
    """Return the pictures of a page as HTML."""
    found = []
    for width, shown in WIDTHS.items():
        for scheme in SCHEMES:
            page.set_viewport_size({"width": width, "height": width * 5 // 8})
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            picture = base64.b64encode(page.screenshot(full_page=True)).decode()
            found.append(f'<img width="{shown}" alt="" src="data:image/png;base64,{picture}">')
    return f"<div>{''.join(found)}</div>"


def figures(browser: Browser, folder: Path, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Yield a figure for every page and every mail that is wanted."""
    context = browser.new_context(reduced_motion="reduce")
    tab = places.Tab(context, scripts=True)
    with places.places(folder) as found:
        for state in pages.STATES:
            if wanted(state.name):
                tab.visit(state, found.of(state))
                yield _figure(state.name, state.sentence, shots(tab.page))
    site = pages.Site("sqlite://", {"ACCOUNTFLOW_SUPPORT_EMAIL": "help@example.com"})
    previews = site.app.extensions["accountflow_previews"]
    tab.page.goto("about:blank")  # which lets a mail have its styles, and no CSP does
    for name in filter(wanted, previews.names()):
        letter = previews.show(name, "en").letter
        tab.page.set_content(letter.html)
        yield _figure(f"mail/{name}", letter.subject, shots(tab.page))
    site.close()
    context.close()


def _figure(name: str, sentence: str, pictures: str) -> str:
    caption = f"<b>{html.escape(name)}</b> {html.escape(sentence)}"
    return f"<figure><figcaption>{caption}</figcaption>{pictures}</figure>"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def reduced(page: Page, picture: bytes) -> bytes:
    """Return a PNG of 256 colours, which is a third as large."""
    width, height, palette, packed = page.evaluate(_REDUCE, base64.b64encode(picture).decode())
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", bytes(palette)), (b"IDAT", base64.b64decode(packed)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def write(file: Path, names: list[str]) -> None:
    """Write the sheet, of these states and mails, or of all."""
    chromium = os.environ.get("ACCOUNTFLOW_TEST_CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as started, tempfile.TemporaryDirectory() as folder:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        found = list(figures(browser, Path(folder), lambda name: not names or name in names))
        sheet = browser.new_page(viewport={"width": 4 * (2 * sum(WIDTHS.values()) + 24) + 3 * 24 + 32, "height": 600})
        sheet.set_content(f"<!doctype html><style>{_STYLE}</style>{''.join(found)}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(reduced(sheet, sheet.screenshot(full_page=True)))
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Take a picture of every page and every mail.")
    parser.add_argument("file", type=Path)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    write(given.file, given.names)
