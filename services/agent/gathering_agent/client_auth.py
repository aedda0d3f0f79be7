"""The gateway's AuthService, as `ports.Authority`."""

from __future__ import annotations

from gathering.gateway.v1 import auth_service_pb2
from gathering.gateway.v1.auth_service_pb2_grpc import AuthServiceStub
from gathering_mesh.call import Call
from gathering_mesh.client import Channels, peer
from gathering_mesh.delegation import Delegations
from gathering_mesh.tokens import Authenticator

_SERVICE = "gateway"


class AuthClient:
    """Asks for delegations and works with them."""

    def __init__(self, service: str, channels: Channels, authenticator: Authenticator) -> None:
        self._channels = channels
        self._stub = AuthServiceStub(channels.to(_SERVICE))
        self._delegations = Delegations(service, self._exchange, authenticator)

    async def delegate(self, call: Call, purpose_id: str, name: str) -> str:
        """Return the delegation that the caller gives for this purpose; once per name."""
        asked = auth_service_pb2.CreateDelegationRequest(
            request_id=f"agent:{name}", purpose_id=purpose_id
        )
        with peer(_SERVICE):
            delegation = await self._stub.CreateDelegation(asked, **self._channels.outgoing(call))
        return delegation.delegation_id

    async def call(self, tenant: str, delegation_id: str, trace: str) -> Call:
        """Return a call on behalf of the user who gave the delegation."""
        return await self._delegations.call(tenant, delegation_id, trace=trace)

    async def _exchange(self, tenant: str, delegation_id: str) -> str:
        asked = auth_service_pb2.ExchangeDelegationRequest(
            tenant_id=tenant, delegation_id=delegation_id
        )
        with peer(_SERVICE):
            answer = await self._stub.ExchangeDelegation(
                asked, **self._channels.outgoing_as_actor()
            )
        return answer.access_token
