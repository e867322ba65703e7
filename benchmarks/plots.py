"""The results as pictures: grouped bars in SVG, one for light pages and one for dark."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from .report import FLOW_NAMES, TITLES
from .rounds import FLOWS

_WIDTH, _LEFT, _RIGHT = 820, 130, 70
_BAR, _GAP, _LINE = 12, 16, 20
_FONT = "font-family='system-ui, sans-serif' font-size='12'"

# A bar that is longer than so many times the median of all bars is cut off, because the others would vanish beside it.
_CUT = 4


@dataclass(frozen=True)
class Scheme:
    """Colours that are told apart by people who see few, with a contrast of 3 and more to the page (WCAG 1.4.11)."""

    text: str
    line: str
    bars: tuple[str, ...]


SCHEMES = {
    "light": Scheme(
        "#1f2328", "#8c959f", ("#0072b2", "#c04e00", "#00805c", "#b0558f", "#8a6a00", "#5a5a5a", "#7048c8")
    ),
    "dark": Scheme("#e6edf3", "#7d8590", ("#56b4e9", "#e69f00", "#2fc493", "#e08fc0", "#f0e442", "#b5b5b5", "#ab93f5")),
}


def pictures(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the picture of each database in each scheme, by the name of its file."""
    return {
        f"{kind}-{name}.svg": picture(TITLES[kind], systems, scheme)
        for kind, systems in results["databases"].items()
        if systems
        for name, scheme in SCHEMES.items()
    }


def picture(title: str, systems: Mapping[str, Any], scheme: Scheme) -> str:
    """Return bars of the CPU that each flow takes, grouped by flow, with a thin line from the least to the most."""
    flows = [flow for flow in FLOWS if any(flow in one["flows"] for one in systems.values())]
    height = _LINE * (len(systems) + 3) + sum(_GAP + _BAR * _count(systems, flow) for flow in flows)
    label = f"CPU milliseconds per request on {title}, less is better"
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' width='{_WIDTH}' height='{height}' "
        f"role='img' aria-labelledby='title desc' {_FONT}>",
        f"<title id='title'>{escape(label)}</title>",
        f"<desc id='desc'>{escape(_description(systems, flows))}</desc>",
        _text(0, _LINE - 5, label, scheme.text, "font-weight='bold'"),
        *_legend(systems, scheme),
        *_groups(systems, flows, scheme),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _count(systems: Mapping[str, Any], flow: str) -> int:
    return sum(flow in one["flows"] for one in systems.values())


def _description(systems: Mapping[str, Any], flows: list[str]) -> str:
    return " ".join(
        f"{FLOW_NAMES[flow]}: "
        + ", ".join(
            f"{name} {one['flows'][flow]['cpu_ms']['median']:.1f}"
            for name, one in systems.items()
            if flow in one["flows"]
        )
        + "."
        for flow in flows
    )


def _legend(systems: Mapping[str, Any], scheme: Scheme) -> Iterator[str]:
    for row, (name, colour) in enumerate(zip(systems, _colours(systems, scheme), strict=True), start=1):
        y = _LINE * (row + 1)
        yield f"<rect x='{_LEFT}' y='{y - 10}' width='10' height='10' fill='{colour}'/>"
        yield _text(_LEFT + 16, y - 1, name, scheme.text)


def _colours(systems: Mapping[str, Any], scheme: Scheme) -> list[str]:
    return [scheme.bars[number % len(scheme.bars)] for number in range(len(systems))]


def _groups(systems: Mapping[str, Any], flows: list[str], scheme: Scheme) -> Iterator[str]:
    longest = _longest(systems)
    y = _LINE * (len(systems) + 2)
    for flow in flows:
        yield _text(
            _LEFT - 8, y + _BAR * _count(systems, flow) / 2 + 4, FLOW_NAMES[flow], scheme.text, "text-anchor='end'"
        )
        for one, colour in zip(systems.values(), _colours(systems, scheme), strict=True):
            if flow in one["flows"]:
                yield from _bar(one["flows"][flow]["cpu_ms"], y, longest, colour, scheme)
                y += _BAR
        y += _GAP


def _longest(systems: Mapping[str, Any]) -> float:
    medians = [float(flow["cpu_ms"]["median"]) for one in systems.values() for flow in one["flows"].values()]
    cut = _CUT * statistics.median(medians)
    return max(value for value in medians if value <= cut)


def _bar(cpu: Mapping[str, float], y: float, longest: float, colour: str, scheme: Scheme) -> Iterator[str]:
    unit = (_WIDTH - _LEFT - _RIGHT) / longest
    length = min(cpu["median"], longest) * unit
    is_cut = cpu["median"] > longest
    yield f"<rect x='{_LEFT}' y='{y}' width='{length:.1f}' height='{_BAR - 2}' fill='{colour}'/>"
    end = length
    if is_cut:
        x = _LEFT + length - 14
        yield f"<path d='M{x:.1f} {y + _BAR} l6 {-_BAR - 2}' stroke='{scheme.text}' stroke-width='2'/>"
    else:
        low, end = cpu["low"] * unit, min(cpu["high"], longest) * unit
        middle = y + _BAR / 2 - 1
        yield f"<path d='M{_LEFT + low:.1f} {middle} H{_LEFT + end:.1f}' stroke='{scheme.line}' stroke-width='2'/>"
    yield _text(_LEFT + max(length, end) + 5, y + _BAR - 2, f"{cpu['median']:.1f}", scheme.text, "font-size='11'")


def _text(x: float, y: float, text: str, colour: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' fill='{colour}' {more}>{escape(text)}</text>"
