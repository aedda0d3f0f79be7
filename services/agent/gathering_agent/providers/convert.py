"""Proto to model and back, for models and keys of providers; pure."""

from __future__ import annotations

from gathering.agent.v1 import model_service_pb2, provider_key_pb2
from gathering_agent.convert import timestamp
from gathering_agent.providers.models_catalogue import Capability
from gathering_agent.providers.models_circuits import CircuitState
from gathering_agent.providers.models_keys import ProviderKey
from gathering_agent.providers.models_status import KeySource, ModelStatus

_CAPABILITIES: dict[Capability, model_service_pb2.ModelCapability.ValueType] = {
    one: model_service_pb2.ModelCapability.Value(f"MODEL_CAPABILITY_{one.name}")
    for one in Capability
}
_SOURCES: dict[KeySource | None, model_service_pb2.ModelKeySource.ValueType] = {
    None: model_service_pb2.MODEL_KEY_SOURCE_UNSPECIFIED,
    **{
        one: model_service_pb2.ModelKeySource.Value(f"MODEL_KEY_SOURCE_{one.name}")
        for one in KeySource
    },
}
_STATES: dict[CircuitState, model_service_pb2.ModelCircuitState.ValueType] = {
    one: model_service_pb2.ModelCircuitState.Value(f"MODEL_CIRCUIT_STATE_{one.name}")
    for one in CircuitState
}


def model_message(status: ModelStatus) -> model_service_pb2.Model:
    """Return a model as the contract has it."""
    model, circuit = status.model, status.circuit
    prices = model.prices
    return model_service_pb2.Model(
        name=model.name,
        provider=model.provider,
        context_window_tokens=model.context_window_tokens,
        max_output_tokens=model.max_output_tokens,
        available=status.source is not None,
        image_tokens=model.image_tokens,
        prices=model_service_pb2.ModelPrices(
            input=prices.input,
            output=prices.output,
            cached=prices.cached,
            cache_write=prices.cache_write,
        ),
        capabilities=[_CAPABILITIES[one] for one in model.capabilities],
        key_source=_SOURCES[status.source],
        circuit=model_service_pb2.ModelCircuit(
            state=_STATES[status.state],
            failure_count=circuit.failures,
            last_failure_time=timestamp(circuit.failure_time),
            last_failure_reason=circuit.reason,
        ),
    )


def key_message(key: ProviderKey) -> provider_key_pb2.ProviderKey:
    """Return a key as the contract has it, which never has the key itself."""
    return provider_key_pb2.ProviderKey(
        provider_key_id=key.id,
        provider=key.provider,
        last_characters=key.last,
        user_id=key.user_id,
        set_time=timestamp(key.set_time),
    )
