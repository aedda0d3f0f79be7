"""Read what the contract says beside the types: access rules of RPCs, bounds of fields."""

from __future__ import annotations

from dataclasses import dataclass

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from gathering.options.v1 import options_pb2

USER = "user"  # stands in `actors` for users who call directly


class ContractError(Exception):
    """The contract or its servicer is incomplete; a server with it does not start."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call an RPC; exactly one of `public`, `internal` and `scope` is set."""

    public: bool
    internal: bool
    scope: str
    actors: frozenset[str]

    def admits(self, actor: str | None) -> bool:
        """Tell whether this service, or a user who calls directly (None), is among the callers."""
        if actor is None and self.internal:
            return False
        return not self.actors or (actor or USER) in self.actors


def method_rule(method: MethodDescriptor) -> Rule:
    """Return the rule of an RPC; ContractError without one or with a contradiction."""
    options = method.GetOptions()
    if not options.HasExtension(options_pb2.rule):
        raise ContractError(f"{method.full_name} has no access rule")
    found = options.Extensions[options_pb2.rule]
    rule = Rule(found.public, found.internal, found.scope, frozenset(found.actors))
    if rule.public + rule.internal + bool(rule.scope) != 1:
        raise ContractError(
            f"{method.full_name} needs exactly one of public, internal and scope in its rule"
        )
    if options.HasExtension(annotations_pb2.http) and not (rule.public or rule.admits(None)):
        raise ContractError(
            f"{method.full_name} has a route at the edge, but its rule admits no user"
        )
    return rule


def field_bounds(field: FieldDescriptor) -> options_pb2.Bounds | None:
    """Return the bounds of a field, None where it has none."""
    options = field.GetOptions()
    if not options.HasExtension(options_pb2.bounds):
        return None
    return options.Extensions[options_pb2.bounds]


def message_type(field: FieldDescriptor) -> Descriptor:
    """Return the type of a message field; TypeError for any other."""
    if field.message_type is None:
        raise TypeError(f"{field.full_name} is no message")
    return field.message_type


def is_message(field: FieldDescriptor, full_name: str) -> bool:
    """Tell whether a field holds messages of this type."""
    return field.message_type is not None and field.message_type.full_name == full_name
