"""The Python client of Gathering, and the `gathering` command.

    async with Gathering("http://127.0.0.1:8080", Login("me@example.org", "...")) as mesh:
        agent = await mesh.agents.CreateAgent(CreateAgentRequest(agent=Agent(name="Ada")))

Calls and messages are those of the contract (`gathering.<service>.v1`); the client adds the token,
renews it, retries what is safe to repeat and resumes streams.
"""

from gathering_client.connection import Gathering
from gathering_client.errors import GatheringError, StreamCutError
from gathering_client.login import ApiKey, Login, Session

__all__ = ["ApiKey", "Gathering", "GatheringError", "Login", "Session", "StreamCutError"]
