"""ModelService."""

from __future__ import annotations

from gathering.agent.v1 import model_service_pb2, provider_key_pb2
from gathering_agent.providers.convert import key_message, model_message
from gathering_agent.providers.lines import Lines
from gathering_mesh.call import Call
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint


class ModelServicer:
    """Serves `gathering.agent.v1.ModelService`."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def ListModels(
        self, request: model_service_pb2.ListModelsRequest, call: Call
    ) -> model_service_pb2.ListModelsResponse:
        """Return the catalogue."""
        return model_service_pb2.ListModelsResponse(
            models=map(model_message, await self._lines.status(call.tenant)),
            default_model=self._lines.catalogue.default,
        )

    async def SetProviderKey(
        self, request: model_service_pb2.SetProviderKeyRequest, call: Call
    ) -> provider_key_pb2.ProviderKey:
        """Set a key."""
        return key_message(await self._lines.keyring.set(call, request.provider, request.key))

    async def ListProviderKeys(
        self, request: model_service_pb2.ListProviderKeysRequest, call: Call
    ) -> model_service_pb2.ListProviderKeysResponse:
        """Return a page of keys."""
        size = page_size(request.page_size)
        query = query_fingerprint(call.method, call.tenant)
        token = decode_token(query, request.page_token)
        after = str(token[0]) if token else ""
        found = await self._lines.keyring.page(call, after=after, limit=size + 1)
        page = found[:size]
        return model_service_pb2.ListProviderKeysResponse(
            keys=map(key_message, page),
            next_page_token=encode_token(query, [page[-1].provider]) if len(found) > size else "",
        )

    async def DeleteProviderKey(
        self, request: model_service_pb2.DeleteProviderKeyRequest, call: Call
    ) -> provider_key_pb2.ProviderKey:
        """Delete a key."""
        return key_message(await self._lines.keyring.delete(call, request.provider_key_id))
