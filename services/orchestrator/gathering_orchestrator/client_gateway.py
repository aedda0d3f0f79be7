"""The gateway: permissions to act for users after their tokens have ended."""

from __future__ import annotations

from gathering.gateway.v1 import auth_service_pb2, auth_service_pb2_grpc
from gathering_mesh.call import Call
from gathering_mesh.client import Channels, peer
from gathering_mesh.delegation import Delegations
from gathering_mesh.errors import NotFound, Unauthenticated
from gathering_mesh.tokens import Authenticator
from gathering_orchestrator.errors import PermitRevoked

_PEER = "gateway"
_REVOKED = "CREDENTIALS_REVOKED"


class GatewayClient:
    """See `ports.Permits`."""

    def __init__(self, service: str, channels: Channels, authenticator: Authenticator) -> None:
        self._channels = channels
        self._stub = auth_service_pb2_grpc.AuthServiceStub(channels.to(_PEER))
        self._delegations = Delegations(service, self._exchange, authenticator)

    async def grant(self, call: Call, purpose_id: str) -> str:
        """Have the caller let this service act on; return the delegation's id."""
        request = auth_service_pb2.CreateDelegationRequest(
            request_id=f"delegation:{purpose_id}", purpose_id=purpose_id
        )
        with peer(_PEER):
            made = await self._stub.CreateDelegation(request, **self._channels.outgoing(call))
        return made.delegation_id

    async def call(self, tenant: str, delegation_id: str, trace: str = "") -> Call:
        """Return a call as the user of a delegation, within a trace; PermitRevoked."""
        try:
            return await self._delegations.call(tenant, delegation_id, trace=trace)
        except NotFound as error:
            raise PermitRevoked(error.message) from error
        except Unauthenticated as error:
            if error.reason == _REVOKED:
                raise PermitRevoked(error.message) from error
            raise

    async def revoke(self, call: Call, delegation_id: str) -> None:
        """End a delegation of the caller."""
        request = auth_service_pb2.RevokeDelegationRequest(delegation_id=delegation_id)
        with peer(_PEER):
            await self._stub.RevokeDelegation(request, **self._channels.outgoing(call))

    async def _exchange(self, tenant: str, delegation_id: str) -> str:
        request = auth_service_pb2.ExchangeDelegationRequest(
            tenant_id=tenant, delegation_id=delegation_id
        )
        with peer(_PEER):
            answer = await self._stub.ExchangeDelegation(
                request, **self._channels.outgoing_as_actor()
            )
        return answer.access_token
