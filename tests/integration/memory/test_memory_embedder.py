"""The default embedder: batches, lengths, failures, its thread."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from gathering_memory.provider_minilm import BATCH_TEXTS, MODEL, MiniLm, MiniLmEmbedder

TEXTS = ["A cat sleeps", "The stock market fell", "word " * 1_000, "", "猫が眠る", "A kitten naps"]


@pytest.fixture(scope="module")
def model(models: Path) -> MiniLm:
    """The model, loaded once."""
    return MiniLm(models / MODEL, threads=1)


def test_vector_does_not_depend_on_its_batch(model: MiniLm) -> None:
    together = model.encode(TEXTS)
    alone = [model.encode([text])[0] for text in TEXTS]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_like_meanings_are_near(model: MiniLm) -> None:
    cat, stocks, *_, kitten = np.array(model.encode(TEXTS))
    assert cat @ kitten > 0.6 > cat @ stocks


def test_many_texts_of_all_lengths_are_embedded_in_their_order(model: MiniLm) -> None:
    texts = [f"{'long ' * (number % 7 * 40)} text {number}" for number in range(14)]
    one_by_one = [model.encode([text])[0] for text in texts]
    np.testing.assert_allclose(model.encode(texts), one_by_one, atol=1e-5)


async def test_texts_that_wait_are_embedded_together(models: Path) -> None:
    embedder = MiniLmEmbedder(models)
    running = asyncio.create_task(embedder.run())
    try:
        vectors = await asyncio.gather(
            *(embedder.document(f"text {number}") for number in range(3 * BATCH_TEXTS))
        )
        assert len(vectors) == 3 * BATCH_TEXTS
        assert await embedder.query("text 7") == pytest.approx(vectors[7], abs=1e-5)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        embedder.close()


async def test_damaged_files_are_waited_for_like_missing_ones(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / MODEL
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{")
    embedder = MiniLmEmbedder(tmp_path)
    running = asyncio.create_task(embedder.run())
    try:
        assert await embedder.query("anything") is None
        waiting = asyncio.create_task(embedder.document("a text"))
        await asyncio.sleep(0)
        folder.rename(tmp_path / "damaged")
        folder.symlink_to(models / MODEL)
        async with asyncio.timeout(20):
            assert len(await waiting) == 384
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        embedder.close()
