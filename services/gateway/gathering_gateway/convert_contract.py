"""Read the contract from its checked-in descriptors: RPCs, comments, the transcoder's set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.rpc import error_details_pb2

from gathering.options.v1 import options_pb2
from gathering_gateway.models_contract import HttpRoute, Rpc
from gathering_mesh.options import method_rule

_FILE = "descriptors.binpb"
_VERBS = ("get", "put", "post", "delete", "patch")
_PACKAGE = "gathering."


@dataclass(frozen=True, slots=True)
class Contract:
    """The contract: descriptors to walk, the comments that they lack, the files themselves."""

    services: Sequence[ServiceDescriptor]
    comments: Mapping[str, str]  # by full name
    files: descriptor_pb2.FileDescriptorSet
    pool: descriptor_pool.DescriptorPool

    def rpcs(self) -> list[Rpc]:
        """Return all RPCs in the order of the files."""
        return [to_rpc(method) for service in self.services for method in service.methods]

    def transcoder_set(self) -> bytes:
        """Return the descriptors without comments; errors' details are among them."""
        bare = descriptor_pb2.FileDescriptorSet()
        bare.CopyFrom(self.files)
        for file in bare.file:
            file.ClearField("source_code_info")
        return bare.SerializeToString(deterministic=True)


def read_contract() -> Contract:
    """Return the contract that this distribution was made with."""
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set())
    # A pool of its own: only the options' own files are those that Python has loaded.
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    services = [
        pool.FindServiceByName(f"{file.package}.{service.name}")
        for file in files.file
        if file.package.startswith(_PACKAGE)
        for service in file.service
    ]
    comments = dict(pair for file in files.file for pair in _comments(file))
    return Contract(services, comments, files, pool)


def descriptor_set() -> bytes:
    """Return the contract as clients are built from it: all files, their imports and comments."""
    return (resources.files("gathering") / _FILE).read_bytes()


def to_rpc(method: MethodDescriptor) -> Rpc:
    """Return what the edge needs to know of an RPC."""
    options = method.GetOptions()
    routes: tuple[HttpRoute, ...] = ()
    if options.HasExtension(annotations_pb2.http):
        routes = tuple(_routes(options.Extensions[annotations_pb2.http]))
    return Rpc(method.full_name, routes, method_rule(method).public, method.server_streaming)


def _routes(rule: http_pb2.HttpRule) -> Iterator[HttpRoute]:
    verb = rule.WhichOneof("pattern")
    if verb in _VERBS:
        yield HttpRoute(verb.upper(), getattr(rule, verb), rule.body)
    for other in rule.additional_bindings:
        yield from _routes(other)


def _comments(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Yield the comments of a file by the full names of what they describe."""
    names = dict(_paths(file))
    for place in file.source_code_info.location:
        name = names.get(tuple(place.path))
        text = place.leading_comments or place.trailing_comments
        if name and text:
            yield name, "\n".join(line.removeprefix(" ") for line in text.rstrip().splitlines())


_Path = tuple[int, ...]


def _paths(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[_Path, str]]:
    for index, message in enumerate(file.message_type):
        yield from _message_paths(message, (4, index), file.package)
    for index, enum in enumerate(file.enum_type):
        yield from _enum_paths(enum, (5, index), file.package)
    for index, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        yield (6, index), name
        for number, method in enumerate(service.method):
            yield (6, index, 2, number), f"{name}.{method.name}"


def _message_paths(
    message: descriptor_pb2.DescriptorProto, path: _Path, scope: str
) -> Iterator[tuple[_Path, str]]:
    name = f"{scope}.{message.name}"
    yield path, name
    for index, field in enumerate(message.field):
        yield (*path, 2, index), f"{name}.{field.name}"
    for index, nested in enumerate(message.nested_type):
        yield from _message_paths(nested, (*path, 3, index), name)
    for index, enum in enumerate(message.enum_type):
        yield from _enum_paths(enum, (*path, 4, index), name)


def _enum_paths(
    enum: descriptor_pb2.EnumDescriptorProto, path: _Path, scope: str
) -> Iterator[tuple[_Path, str]]:
    name = f"{scope}.{enum.name}"
    yield path, name
    for index, value in enumerate(enum.value):
        yield (*path, 2, index), f"{name}.{value.name}"


# These imports put the extensions into the generated messages; nothing else uses them here.
_KNOWN = (options_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR)
