"""Two contract types for import-linter, in terms of this repository's file names."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

# The first pattern that fits a module's name tells its role; whatever else there is, is a verb.
ROLES = (
    ("migrations", "migrations"),
    ("__main__", "main"),
    ("app*", "app"),
    ("settings", "settings"),
    ("servicer*", "servicer"),
    ("convert*", "convert"),
    ("models*", "models"),
    ("events", "models"),
    ("ports*", "ports"),
    ("errors", "errors"),
    ("store*", "store"),
    ("provider_*", "adapter"),
    ("client_*", "adapter"),
    ("worker*", "worker"),
)
# What a role imports of its own service. `app` composes, so it imports whatever there is.
MAY_IMPORT = {
    "package": frozenset[str](),
    "migrations": frozenset({"migrations"}),
    "main": frozenset({"app", "settings"}),
    "settings": frozenset({"models"}),
    "errors": frozenset({"errors"}),
    "models": frozenset({"models", "errors"}),
    "ports": frozenset({"ports", "models", "errors"}),
    "verb": frozenset({"verb", "ports", "models", "errors"}),
    "convert": frozenset({"convert", "models", "errors"}),
    "servicer": frozenset({"servicer", "convert", "verb", "ports", "models", "errors"}),
    "store": frozenset({"store", "ports", "models", "errors"}),
    "adapter": frozenset({"adapter", "convert", "ports", "models", "errors"}),
    "worker": frozenset({"worker", "verb", "ports", "models", "errors"}),
}
PURE = frozenset({"errors", "models", "ports", "verb"})

_Breaches = list[tuple[str, str]]


def role_of(module: str) -> str:
    """Return the role of a service's module, from its dotted name."""
    _, *path = module.split(".")
    for segment in path:
        for pattern, role in ROLES:
            if fnmatchcase(segment, pattern):
                return role
    return "verb" if path else "package"


class _DirectImportsContract(Contract):
    """Judges direct imports one by one."""

    def breaches(self, graph: ImportGraph) -> Iterator[tuple[str, str]]:
        raise NotImplementedError

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        found: _Breaches = sorted(set(self.breaches(graph)))
        return ContractCheck(kept=not found, metadata={"breaches": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["breaches"]:
            output.print_error(f"{importer} must not import {imported}", bold=False)


class RolesContract(_DirectImportsContract):
    """Inside a service a file imports only the roles below its own; the pure ones, no plumbing."""

    type_name = "roles"
    services = fields.ListField(subfield=fields.StringField())
    plumbing = fields.SetField(subfield=fields.StringField())

    def breaches(self, graph: ImportGraph) -> Iterator[tuple[str, str]]:
        for service in cast("list[str]", self.services):
            for module in sorted({service, *graph.find_descendants(service)}):
                for imported in graph.find_modules_directly_imported_by(module):
                    if self._is_breach(service, role_of(module), imported):
                        yield module, imported

    def _is_breach(self, service: str, role: str, imported: str) -> bool:
        root = imported.split(".")[0]
        if root == service and role != "app":
            return role_of(imported) not in MAY_IMPORT[role]
        return role in PURE and root in cast("set[str]", self.plumbing)


class OwnersContract(_DirectImportsContract):
    """Each third-party library is imported by its owners only (`library: owner owner`)."""

    type_name = "owners"
    owners = fields.ListField(subfield=fields.StringField())

    def breaches(self, graph: ImportGraph) -> Iterator[tuple[str, str]]:
        for line in cast("list[str]", self.owners):
            library, _, owners = line.partition(":")
            if library not in graph.modules:
                continue
            for importer in graph.find_modules_that_directly_import(library):
                if not any(fnmatchcase(importer, owner) for owner in owners.split()):
                    yield importer, library
