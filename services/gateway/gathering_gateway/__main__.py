"""Serve until SIGTERM: `python -m gathering_gateway`."""

from gathering_gateway.app import open_app
from gathering_gateway.settings import GatewaySettings
from gathering_mesh.process import run

if __name__ == "__main__":
    run(open_app, GatewaySettings())
