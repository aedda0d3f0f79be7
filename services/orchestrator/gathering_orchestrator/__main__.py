"""Serve until told to stop: `python -m gathering_orchestrator`."""

from gathering_mesh.process import run
from gathering_orchestrator.app import open_app
from gathering_orchestrator.settings import OrchestratorSettings

if __name__ == "__main__":
    run(open_app, OrchestratorSettings())
