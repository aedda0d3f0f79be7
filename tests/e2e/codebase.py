"""A small Python code base with known faults, each at a known place."""

from __future__ import annotations

from pathlib import Path

# path: lines, 1-based line and rule of each lint error that any choice of rules reports
FILES = {
    "shop/__init__.py": "",
    "shop/basket.py": (
        "import os\n"  # 1: F401
        "import sys\n"  # 2: F401
        "\n"
        "from shop import prices\n"
        "\n"
        "\n"
        "def total(items):\n"
        "    unused = 1\n"  # 8: F841
        "    return sum(prices.price(item) for item in items)\n"
    ),
    "shop/prices.py": (
        "from shop import basket\n"
        "\n"
        "TABLE = {'a': 1, 'b': 2}\n"
        "\n"
        "\n"
        "def price(item):\n"
        "    return TABLE[item] + missing\n"  # 7: F821
        "\n"
        "\n"
        "def check(item):\n"
        "    return basket.total([item]) == None\n"  # 11: E711
    ),
}
COMPLEX = "decide"
COMPLEX_FILE = "shop/rules.py"
LARGE_FILE = "shop/data.py"
FINDINGS = {
    ("shop/basket.py", 1, "F401"),
    ("shop/basket.py", 2, "F401"),
    ("shop/basket.py", 8, "F841"),
    ("shop/prices.py", 7, "F821"),
    ("shop/prices.py", 11, "E711"),
}
CYCLE = ("shop.basket", "shop.prices")


def write(root: Path) -> Path:
    """Write the code base below a folder and return it."""
    for path, text in {
        **FILES,
        COMPLEX_FILE: _complex(),
        LARGE_FILE: "".join(f"ROW_{number} = {number}\n" for number in range(1200)),
    }.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def _complex() -> str:
    branches = "".join(
        f"    if kind == {number} and amount > {number}:\n        return {number}\n"
        for number in range(14)
    )
    return f"def {COMPLEX}(kind, amount):\n{branches}    return None\n"
