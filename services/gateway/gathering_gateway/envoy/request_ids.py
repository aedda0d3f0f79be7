"""Request ids: a client's is kept where its form is sane, else the edge makes one."""

from __future__ import annotations

from gathering_gateway.envoy.models import Config
from gathering_gateway.envoy.typed import REQUEST_ID, added, typed

_LONGEST = 128  # as the services have it
_KEPT = "x-gathering-kept-request-id"
# gRPC takes fewer names than HTTP, and names on -bin with base64 only; a service's server would
# answer such a header with INTERNAL. Names that begin with a colon are HTTP's own.
_NO_METADATA = "[^:a-z0-9_.-].*|[^:].*[^a-z0-9_.-].*|.*-bin"
_SANE = (
    f"'{REQUEST_ID}' in request.headers"
    f" && size(request.headers['{REQUEST_ID}']) <= {_LONGEST}"
    f" && request.headers['{REQUEST_ID}'].matches('^[A-Za-z0-9._-]+$')"
)


def sane_request_ids() -> Config:
    """Return what drops other ids before Envoy looks whether there is one.

    No step can drop a header by its value, so a sane one is put aside and back.
    """
    kept = f"%CEL({_SANE} ? request.headers['{REQUEST_ID}'] : '')%"
    mutations = [
        {"remove": _KEPT},
        _set(_KEPT, kept),
        {"remove": REQUEST_ID},
        _set(REQUEST_ID, f"%REQ({_KEPT})%"),
        {"remove": _KEPT},
        {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": _NO_METADATA}}}},
    ]
    kind = "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return {"name": "request_ids", "typed_config": typed(kind, mutations=mutations)}


def _set(name: str, value: str) -> Config:
    return {"append": added([(name, value)])[0]}
