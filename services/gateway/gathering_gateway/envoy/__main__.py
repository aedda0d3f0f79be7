"""`python -m gathering_gateway.envoy --out FILE`: write the edge's configuration.

Settings come from the environment: GATHERING_EDGE__PARTS, GATHERING_EDGE__GATEWAY_HTTP, ...
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gathering_gateway.envoy.app import write
from gathering_gateway.envoy.settings import EdgeEnvironment


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(prog="python -m gathering_gateway.envoy")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for `envoy -c`")
    options = parser.parse_args()
    write(EdgeEnvironment().edge, options.out)  # type: ignore[call-arg]  # from the environment


if __name__ == "__main__":
    main()
