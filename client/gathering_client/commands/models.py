"""gathering models: list; set-key, keys, delete-key."""

import sys
from typing import Annotated

import typer

from gathering.agent.v1 import model_service_pb2 as pb
from gathering_client.connection import Gathering
from gathering_client.output import console, print_json, print_table, with_mesh
from gathering_client.paging import all_pages

app = typer.Typer(help="Models that agents can use, and your tenant's keys of their providers.")
# What is shown of a model; all of them stream.
_WORDS = {
    pb.MODEL_CAPABILITY_TOOLS: "tools",
    pb.MODEL_CAPABILITY_IMAGES: "images",
    pb.MODEL_CAPABILITY_STRUCTURED_OUTPUT: "schema",
    pb.MODEL_CAPABILITY_REASONING: "thinks",
    pb.MODEL_CAPABILITY_PROMPT_CACHE: "cache",
}
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the models: whose key they are called with, what they can do, how they are."""
    if context.invoked_subcommand is None:
        listing(as_json)


def listing(as_json: Json = False) -> None:
    """List the models that agents can use."""

    async def work(mesh: Gathering) -> None:
        found = await mesh.models.ListModels(pb.ListModelsRequest())
        if as_json:
            print_json(found)
            return
        print_table(
            ("model", "key", "now", "last failure", "can", ""),
            [_row(model, found.default_model) for model in found.models],
        )

    with_mesh(work)


def _row(model: pb.Model, default: str) -> tuple[str, ...]:
    circuit = model.circuit
    source = pb.ModelKeySource.Name(model.key_source).removeprefix("MODEL_KEY_SOURCE_").lower()
    state = pb.ModelCircuitState.Name(circuit.state).removeprefix("MODEL_CIRCUIT_STATE_").lower()
    can = [_WORDS[one] for one in model.capabilities if one in _WORDS]
    failed = f"{circuit.last_failure_time.ToDatetime():%Y-%m-%d %H:%M} UTC"
    return (
        model.name,
        source if model.available else "none",
        {"closed": "ok", "half_open": "is tried"}.get(state, state),
        f"{circuit.last_failure_reason}, {failed}" if circuit.last_failure_reason else "",
        " ".join(can),
        "default" if model.name == default else "",
    )


@app.command("set-key")
def set_key(
    provider: Annotated[str, typer.Argument(help="Such as anthropic.")],
) -> None:
    """Set your tenant's own key of a provider; it is asked for, or read from standard input."""
    asked = sys.stdin.isatty()
    key = typer.prompt("Key", hide_input=True) if asked else sys.stdin.readline()

    async def work(mesh: Gathering) -> None:
        made = await mesh.models.SetProviderKey(
            pb.SetProviderKeyRequest(provider=provider, key=key.strip())
        )
        console.print(made.provider_key_id)

    with_mesh(work)


@app.command("keys")
def keys(as_json: Json = False) -> None:
    """List your tenant's own keys, without the keys themselves."""

    async def work(mesh: Gathering) -> None:
        pages = await all_pages(mesh.models.ListProviderKeys, pb.ListProviderKeysRequest())
        found = [key for page in pages for key in page.keys]
        if as_json:
            print_json(pb.ListProviderKeysResponse(keys=found))
            return
        print_table(
            ("key", "provider", "ends in", "set at"),
            [
                (
                    one.provider_key_id,
                    one.provider,
                    one.last_characters,
                    f"{one.set_time.ToDatetime():%Y-%m-%d %H:%M}",
                )
                for one in found
            ],
        )

    with_mesh(work)


@app.command("delete-key")
def delete_key(key: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Delete a key: the operator's is used from then on, where there is one."""

    async def work(mesh: Gathering) -> None:
        await mesh.models.DeleteProviderKey(pb.DeleteProviderKeyRequest(provider_key_id=key))

    with_mesh(work)
