"""The default embedder: MiniLM on onnxruntime, in threads, from the files that set-up writes.

Threads suffice: tokenizer and model let the event loop's thread run while they work. Questions have
a thread of their own, so that no recall waits for a batch of memories.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from gathering_memory.ports import Vector

# The same names as in the set-up (`gathering_local.embedder`), which this service does not import.
MODEL = "all-minilm-l6-v2"
GRAPH_FILE = "minilm.onnx"
TOKENIZER_FILE = "tokenizer.json"

DIMENSIONS = 384
LONGEST_TOKENS = 256  # what the model was trained for; a longer text is embedded by its beginning
BATCH_TEXTS = 32
BATCH_TOKENS = 2048  # with padding, so that one long text does not lengthen many short ones
_LOOK_SECONDS = 1.0
_log = logging.getLogger("gathering_memory.embedder")


class MiniLm:
    """The model, loaded; safe to use from several threads."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Load the files of a folder; OSError without them, other errors if they are damaged."""
        self._tokenizer = Tokenizer.from_str((folder / TOKENIZER_FILE).read_text())
        self._tokenizer.enable_truncation(LONGEST_TOKENS)
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        graph = (folder / GRAPH_FILE).read_bytes()
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector of unit length for each text."""
        tokens = self._tokenizer.encode_batch(list(texts))
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for places in _batches([len(encoding.ids) for encoding in tokens]):
            vectors[places] = self._run([tokens[place] for place in places])
        rows: list[list[float]] = vectors.tolist()
        return rows

    def _run(self, batch: Sequence[Encoding]) -> NDArray[np.float32]:
        longest = max(len(encoding.ids) for encoding in batch)
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(batch):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        found: NDArray[np.float32] = self._session.run(
            None, {"input_ids": ids, "attention_mask": mask}
        )[0]
        return found


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield places of texts of like length, few enough at a time."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class _Waiting:
    text: str
    vector: asyncio.Future[list[float]]


class _Lane:
    """A thread that embeds what waits for it, in batches."""

    def __init__(self, name: str) -> None:
        self.thread = ThreadPoolExecutor(1, f"embed-{name}")
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()

    async def embed(self, text: str) -> list[float]:
        """Return the vector of a text, computed with those that wait beside it."""
        waiting = _Waiting(text, asyncio.get_running_loop().create_future())
        self._waiting.put_nowait(waiting)
        return await waiting.vector

    async def run(self, model: MiniLm) -> NoReturn:
        """Embed until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < BATCH_TEXTS and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            await self._answer(model, [one for one in batch if not one.vector.done()])

    async def _answer(self, model: MiniLm, batch: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        try:
            texts = [one.text for one in batch]
            vectors = await loop.run_in_executor(self.thread, model.encode, texts)
        except Exception as error:
            await self._answer_singly(model, batch, error)
        else:
            for one, vector in zip(batch, vectors, strict=True):
                if not one.vector.done():  # who asked may have gone
                    one.vector.set_result(vector)

    async def _answer_singly(
        self, model: MiniLm, batch: Sequence[_Waiting], error: Exception
    ) -> None:
        """Keep a text that cannot be embedded from failing those beside it."""
        if len(batch) > 1:
            for one in batch:
                await self._answer(model, [one])
        elif not batch[0].vector.done():
            batch[0].vector.set_exception(error)


class MiniLmEmbedder:
    """Embeds off the event loop; without the model's files it waits for them and says so."""

    def __init__(self, models_dir: Path, threads: int = 1) -> None:
        self._folder = models_dir / MODEL
        self._threads = threads
        self._questions = _Lane("query")
        self._documents = _Lane("document")
        self.ready = asyncio.Event()

    async def query(self, text: str) -> Vector | None:
        """Return the vector of a question at once; None while there is no model."""
        return await self._questions.embed(text) if self.ready.is_set() else None

    async def document(self, text: str) -> Vector:
        """Return the vector of a memory, in a batch with those that wait beside it."""
        return await self._documents.embed(text)

    async def run(self) -> None:
        """Load the model as soon as its files are there, then embed until cancelled."""
        model = await self._load()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._questions.run(model))
            tasks.create_task(self._documents.run(model))
            self.ready.set()

    def close(self) -> None:
        """End the threads after what they are doing."""
        for lane in (self._questions, self._documents):
            lane.thread.shutdown(cancel_futures=True)

    async def _load(self) -> MiniLm:
        loop = asyncio.get_running_loop()
        for attempt in count():
            try:
                model = await loop.run_in_executor(
                    self._documents.thread, MiniLm, self._folder, self._threads
                )
            except Exception as error:
                if not attempt:
                    _log.warning(
                        "no embedder: %r; memories are found by words only and wait for their "
                        "vectors; `make setup` writes the files to %s", error, self._folder,
                    )  # fmt: skip
                await asyncio.sleep(_LOOK_SECONDS)
            else:
                _log.info("embedder ready: %s", self._folder)
                return model
        raise AssertionError("counting has no end")
