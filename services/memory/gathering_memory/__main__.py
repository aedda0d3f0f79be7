"""Serve until SIGTERM: `python -m gathering_memory`."""

from gathering_memory.app import open_app
from gathering_memory.settings import MemorySettings
from gathering_mesh.process import run

if __name__ == "__main__":
    run(open_app, MemorySettings())
