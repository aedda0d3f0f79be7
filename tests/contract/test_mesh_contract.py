"""Every service of the contract can be served: rules, bounds and reasons are complete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor

import gathering_mesh.errors
from gathering.errors.v1 import errors_pb2
from gathering.options.v1 import options_pb2
from gathering_mesh.errors import DomainError
from gathering_mesh.options import method_rule
from gathering_mesh.status import to_wire
from gathering_mesh.validation import Validator

DESCRIPTORS = Path(options_pb2.__file__).parents[2] / "descriptors.binpb"


def services() -> Iterator[ServiceDescriptor]:
    """Yield the services of the contract, from a pool of their own."""
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    for file in files:
        if file.package.startswith("gathering."):
            yield from pool.FindFileByName(file.name).services_by_name.values()


SERVICES = {service.full_name: service for service in services()}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_rpc_has_one_rule_and_bounds_that_fit(name: str) -> None:
    validator = Validator()
    for method in SERVICES[name].methods:
        method_rule(method)
        assert method.input_type is not None
        validator.prepare(method.input_type)
        assert not method.client_streaming


def test_reasons_of_the_mesh_are_in_the_contract() -> None:
    known = errors_pb2.ErrorReason.keys()
    found = [
        kind
        for kind in vars(gathering_mesh.errors).values()
        if isinstance(kind, type) and issubclass(kind, DomainError)
    ]
    assert len(found) > 10
    for kind in found:
        assert f"ERROR_REASON_{kind.reason}" in known
        assert to_wire(kind("x"), "req_1").code.name == kind.status
