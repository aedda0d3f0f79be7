"""Generate and check what follows from `protos/`: stubs, descriptors, lint, breaking changes.

`python -m tools.protos generate|drift|lint|breaking|baseline`
"""

import filecmp
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "gen" / "gathering"
DESCRIPTORS = "descriptors.binpb"
BASELINE = PROTOS / "baseline.binpb"
# Errors carry these as `Any`; whoever turns messages into JSON must know them.
ERROR_DETAILS = "google/rpc/error_details.proto"


def sources() -> list[str]:
    """Return the contract's files, as paths below `protos/`."""
    return sorted(str(p.relative_to(PROTOS)) for p in (PROTOS / "gathering").rglob("*.proto"))


def _include_arguments() -> list[str]:
    well_known = resources.files("grpc_tools") / "_proto"
    google_apis = sysconfig.get_path("purelib")
    return [f"--proto_path={path}" for path in (PROTOS, well_known, google_apis)]


def generate(out: Path) -> None:
    """Write stubs, their types and the descriptor set to `out`; nothing else stays there."""
    scripts = sysconfig.get_path("scripts")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        _protoc(
            f"--plugin=protoc-gen-mypy={scripts}/protoc-gen-mypy",
            f"--plugin=protoc-gen-mypy_grpc={scripts}/protoc-gen-mypy_grpc",
            f"--python_out={scratch}",
            f"--grpc_python_out={scratch}",
            f"--mypy_out=quiet:{scratch}",
            f"--mypy_grpc_out=quiet:{scratch}",
            *sources(),
        )
        made = Path(scratch, "gathering")
        write_descriptors(made / DESCRIPTORS)
        (made / "py.typed").touch()
        for empty in [p for p in made.rglob("*_pb2_grpc.py*") if "Stub" not in p.read_text()]:
            empty.unlink()
        _mirror(made, out)


def _mirror(made: Path, out: Path) -> None:
    """Make `out` equal to `made` file by file: a running process never misses one."""
    wanted = _files(made)
    for name in _files(out) - wanted:
        (out / name).unlink()
    for name in wanted:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).replace(out / name)


def _files(folder: Path) -> set[Path]:
    found = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(folder) for p in found}


def write_descriptors(path: Path) -> None:
    """Write the whole contract with its imports and comments as one FileDescriptorSet."""
    _protoc(
        f"--descriptor_set_out={path}",
        "--include_imports",
        "--include_source_info",
        *sources(),
        ERROR_DETAILS,
    )


def drift() -> None:
    """Fail when `gen/` is not what `protos/` gives."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch, "gathering")
        generate(fresh)
        stale = sorted(set(_differences(fresh, GENERATED)))
    if stale:
        sys.exit("gen/ differs from protos/; run `make protos`:\n  " + "\n  ".join(stale))


def _differences(fresh: Path, present: Path) -> Iterator[str]:
    names = [str(name) for name in _files(fresh) | _files(present)]
    _, mismatch, errors = filecmp.cmpfiles(fresh, present, names, shallow=False)
    yield from mismatch
    yield from errors


def lint() -> None:
    """Lint the contract by the rules of `protos/buf.yaml`."""
    _buf("lint")


def breaking() -> None:
    """Fail when a client of the released contract could notice the change."""
    if not BASELINE.exists():
        print("breaking changes: skipped, nothing was released yet (no protos/baseline.binpb)")
        return
    _buf("breaking", "--against", f"{BASELINE}#format=binpb")


def baseline() -> None:
    """Take the contract as it stands as the released one."""
    write_descriptors(BASELINE)


def _buf(command: str, *arguments: str) -> None:
    # buf reads the compiled contract, so that it needs no copy of the files we import.
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch, DESCRIPTORS)
        write_descriptors(image)
        buf = Path(sysconfig.get_path("scripts"), "buf")
        config = ("--config", str(PROTOS / "buf.yaml"))
        _run([str(buf), command, f"{image}#format=binpb", *config, *arguments], cwd=PROTOS)


def _protoc(*arguments: str) -> None:
    _run([sys.executable, "-m", "grpc_tools.protoc", *_include_arguments(), *arguments], cwd=ROOT)


def _run(command: list[str], cwd: Path) -> None:
    if done := subprocess.run(command, cwd=cwd, check=False).returncode:  # noqa: S603 - our own
        sys.exit(done)


COMMANDS = {
    "generate": lambda: generate(GENERATED),
    "drift": drift,
    "lint": lint,
    "breaking": breaking,
    "baseline": baseline,
}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]]()
