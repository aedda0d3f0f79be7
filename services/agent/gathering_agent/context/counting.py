"""How many tokens a text may have, without the tokeniser of its model.

Their vocabularies are not at hand: they are weights of a kind, to be downloaded, and Anthropic's is
not published. This is an estimate on the safe side for what is usual: a token for four letters or
spaces, and one for two bytes of anything else (digits, punctuation, other scripts). Random letters
may have twice as many. Where a model refuses a prompt for its length, it is not asked again: the
attempt failed with MODEL_CONTEXT_EXCEEDED, and the next model of the agent's chain is asked.
"""

from __future__ import annotations

import string

_WORDS = (string.ascii_letters + " \n").encode()
_FRAME = 8  # tokens around each text


def tokens(*texts: str) -> int:
    """Return an estimate of the tokens of texts, each with what frames it."""
    return sum(map(_tokens, texts))


def _tokens(text: str) -> int:
    data = text.encode()
    return (len(data) + len(data.translate(None, _WORDS))) // 4 + _FRAME


def fitting(text: str, room: int) -> str:
    """Return a text in at most about so many tokens, which says what was left out of its end."""
    size = tokens(text)
    if size <= room:
        return text
    keep = max(0, int(len(text) * (room - 2 * _FRAME) / size))
    return f"{text[:keep]}\n[{len(text) - keep} characters left out]"


def middle_cut(text: str, room: int) -> str:
    """Return a text in at most about so many tokens, without its middle if it must be."""
    size = tokens(text)
    if size <= room:
        return text
    keep = max(0, int(len(text) * (room - 2 * _FRAME) / size))
    head = keep - keep // 3
    tail = text[len(text) - keep // 3 :] if keep // 3 else ""
    return f"{text[:head]}\n[{len(text) - keep} characters left out]\n{tail}"
