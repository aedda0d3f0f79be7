"""What a user states in a message: sentences in their own voice, without what they only show."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LONG = 4_000  # characters; of what is longer, most is a document that somebody pasted
_EDGE = 1_000  # of the first and last paragraph of such a text
_SHORTEST, _LONGEST = 3, 400  # words, characters

_FENCED = re.compile(r"(?:```|~~~).*?(?:```|~~~|\Z)", re.DOTALL)
_SHOWN = re.compile(
    r"^(?:[ \t]{4,}|\t|>|\||[{}\[\]<$#]|\d{4}-\d\d-\d\dT?|at |File \").*$", re.MULTILINE
)
_QUOTED = re.compile(r"\"[^\"\n]{12,}\"|“[^”\n]{12,}”|«[^»\n]{12,}»|`[^`\n]{40,}`")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
_END = re.compile(r"(?<=[.!?…])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\n+")
_QUESTION = re.compile(
    r"\?[\"')\]]*$|^(?:what|why|how|when|where|who|whom|whose|which|can|could|do|does|did|is|are|was"
    r"|were|will|would|should|shall|may|have|has|any)\b",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"^(?:if|unless|when|say|assume|assuming)\b|\b(?:suppose|imagine|hypothetically|for example"
    r"|for instance|e\.g\.|let'?s (?:say|assume)|as if|what if|wish|used to|tell me|translate"
    r"|summari[sz]e|rewrite|proofread)\b",
    re.IGNORECASE,
)


def statements(text: str) -> Iterator[str]:
    """Yield what is stated, a line each; no questions, suppositions, code or quotations."""
    shown = _QUOTED.sub(" … ", _SHOWN.sub("", _FENCED.sub("\n", _own_part(text))))
    for piece in _END.split(shown):
        sentence = " ".join(_BULLET.sub("", piece).split())
        if len(sentence.split()) < _SHORTEST or len(sentence) > _LONGEST or "…" in sentence:
            continue
        if not (_QUESTION.search(sentence) or _SUPPOSED.search(sentence)):
            yield sentence


def _own_part(text: str) -> str:
    """Return a text, or of one that holds a document what stands before and behind it."""
    if len(text) <= _LONG:
        return text
    paragraphs = re.split(r"\n\s*\n", text[:_EDGE])[0], re.split(r"\n\s*\n", text[-_EDGE:])[-1]
    return "\n".join(part for part in paragraphs if len(part) < _EDGE)
