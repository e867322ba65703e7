"""Reading a JSON body: strictly, so that nothing surprising reaches a form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from ..errors import Refusal

#: Longest body in bytes; a form of ours needs a hundredth of it.
MAX_BYTES = 64 * 1024


def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body; an empty one when there is no body.

    Raises :exc:`.Refusal`: ``unsupported_media_type`` for anything but ``application/json`` in UTF-8,
    ``payload_too_large``, and ``malformed_body`` for what is not one object with each name once.
    """
    try:
        raw = request.get_data(cache=True)
    except RequestEntityTooLarge:
        raise Refusal("payload_too_large") from None
    if not raw:
        return {}
    # werkzeug cuts a body whose length nobody has told at the limit, instead of refusing it.
    if request.content_length is None and len(raw) >= (request.max_content_length or MAX_BYTES):
        raise Refusal("payload_too_large")
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != "application/json" or charset not in {"utf-8", "utf8"}:
        raise Refusal("unsupported_media_type")
    try:
        found = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError):
        raise Refusal("malformed_body") from None
    if not isinstance(found, dict):
        raise Refusal("malformed_body")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# json.loads() would make one for each body.
_DECODER = json.JSONDecoder(object_pairs_hook=_once_each, parse_constant=_no_constant)
