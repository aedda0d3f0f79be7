"""`python -m gathering_memory`: serves without a model, refuses a schema that it does not know."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path

import asyncpg
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gathering.memory.v1 import memory_service_pb2 as pb
from gathering.memory.v1 import memory_service_pb2_grpc as stubs
from gathering_mesh.keys import SigningKey
from tests.support.fixtures import NewDatabase
from tests.support.postgres import TestDatabase

_SECONDS = 30
_PORT = re.compile(r'"port": (\d+)')


def _environment(database: TestDatabase, folder: Path) -> dict[str, str]:
    key = SigningKey.generate()
    (folder / "memory.pem").write_bytes(key.pem())
    (folder / "actors.json").write_text(json.dumps({"memory": {"keys": [key.public_jwk]}}))
    return {
        **{name: value for name, value in os.environ.items() if "GATHERING" not in name},
        "GATHERING_DATABASE_URL": database.app("memory"),
        "GATHERING_SYSTEM_DATABASE_URL": database.system("memory"),
        "GATHERING_ACTOR_KEY_FILE": str(folder / "memory.pem"),
        "GATHERING_ACTORS_FILE": str(folder / "actors.json"),
        "GATHERING_USER_JWKS_URL": "http://127.0.0.1:1/jwks.json",
        "GATHERING_MODELS_DIR": str(folder),
    }


async def _start(environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gathering_memory", env=environment, stderr=asyncio.subprocess.PIPE
    )


async def _line(process: asyncio.subprocess.Process, holding: str) -> str:
    assert process.stderr is not None
    async with asyncio.timeout(_SECONDS):
        async for line in process.stderr:
            if holding in line.decode():
                return line.decode()
    raise AssertionError(f"the process ended without {holding}")


async def test_process_without_a_model_serves_says_so_and_stops_when_told(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    process = await _start(_environment(await new_database("memory"), tmp_path))
    try:
        found = _PORT.search(await _line(process, "serving"))
        assert found is not None
        await _line(process, "no embedder")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{found[1]}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            name = "gathering.memory.v1.MemoryService"
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            try:
                await stubs.MemoryServiceStub(channel).Recall(pb.RecallRequest(query="x"))
            except grpc.aio.AioRpcError as refused:
                assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_SECONDS):
            _, rest = await process.communicate()
        assert process.returncode == 0, rest
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_unknown_schema_is_refused_at_the_start(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    database = await new_database("memory")
    admin = await asyncpg.connect(database.admin)
    await admin.execute("update memory.alembic_version set version_num = '9999'")
    await admin.close()
    process = await _start(_environment(database, tmp_path))
    async with asyncio.timeout(_SECONDS):
        _, output = await process.communicate()
    assert process.returncode == 1
    assert b"9999" in output
