"""What is never remembered by itself: secrets, and texts that give orders to models."""

from __future__ import annotations

import re

_SECRETS = (
    r"\b(?:pass(?:word|phrase|wd|code)s?|pwd|api[ _-]?keys?"
    r"|(?:secret|private|access|signing)[ _-]?keys?"
    r"|credentials?|pins?|log-?ins?|cvv|social security|ssn|iban|client secret)\b",
    r"\b(?:token|secret|otp|code|combination|(?:seed|recovery|backup) (?:phrase|word|key))s?\b"
    r"[^.;]{0,60}?(?:\b(?:is|are)\b|[=:])",
    r"\btokens? (?=\S*\d)\S{6,}",
    r"\b(?:sk|pk|ghp|gho|glpat|xox[abp]|gak|grt)[-_]\w{6,}|\bAKIA[0-9A-Z]{8,}|\beyJ[\w-]{8,}"
    r"|-----BEGIN|\bbearer \S{8,}",
    r"(?<![\w/])(?=[\w+/=-]*\d)(?=[\w+/=-]*[A-Za-z])[\w+/=-]{20,}",  # letters and digits
    r"(?:\d[ -]?){13,19}",  # cards and accounts
    r"://[^/\s:@]+:[^/\s@]+@",  # an address with a password in it
)
# Where one of these stands nothing else is believed either.
_ORDERS = (
    r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,40}\b(?:instructions?|prompts?|rules?"
    r"|guidelines?|polic(?:y|ies)|persona)\b",
    r"\bsystem prompt\b|\bjailbreak|\bdeveloper mode\b|\brole-?play|\bpretend\b|\bact as\b",
    r"\byou(?: are|'re) (?:now|no longer)\b",
    r"<\|[a-z_]+\|>|\[/?inst\]|^\s*(?:system|assistant|user|human)\s*:|^#{1,6} ",
)
_PARTS = (r"\byou(?: are|'re) (?:an?|the)\b",)


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{one})" for one in patterns), re.IGNORECASE | re.MULTILINE)


_ORDER = _any(*_ORDERS)
_REFUSED = _any(*_SECRETS, *_ORDERS, *_PARTS)
_READ = 20_000  # characters of a text


def gives_orders(text: str) -> bool:
    """Tell whether a text tries to make of a model what it is not."""
    return _ORDER.search(text[:_READ]) is not None


def is_fit(text: str) -> bool:
    """Tell whether a text holds neither a secret nor an order to a model."""
    return _REFUSED.search(text) is None
