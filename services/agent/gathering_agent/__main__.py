"""Serve the agent service until SIGTERM."""

from gathering_agent.app import open_app
from gathering_agent.settings import AgentSettings
from gathering_mesh import process

if __name__ == "__main__":
    process.run(open_app, AgentSettings())
