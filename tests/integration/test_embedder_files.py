"""The default embedder's files, as set-up writes them."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tokenizers
from numpy.typing import NDArray

from gathering_local import embedder
from gathering_local.minilm import DIMENSIONS, MAX_TOKENS

CAT = "A cat sits on the mat."
KITTEN = "A kitten is resting on a rug."
MARKET = "The stock market fell sharply because of the interest rates."


@pytest.fixture(scope="module")
def folder() -> Path:
    return embedder.install(embedder.models_dir())


@pytest.fixture(scope="module")
def session(folder: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(folder / embedder.GRAPH_FILE)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> tokenizers.Tokenizer:
    found = tokenizers.Tokenizer.from_file(str(folder / embedder.TOKENIZER_FILE))
    found.enable_truncation(MAX_TOKENS)
    found.enable_padding()
    return found


def embed(
    session: onnxruntime.InferenceSession, tokenizer: tokenizers.Tokenizer, *texts: str
) -> NDArray[np.float32]:
    encoded = tokenizer.encode_batch(list(texts))
    inputs = {
        "input_ids": np.array([e.ids for e in encoded]),
        "attention_mask": np.array([e.attention_mask for e in encoded]),
    }
    (vectors,) = session.run(["embedding"], inputs)
    return np.asarray(vectors, dtype=np.float32)


def test_related_sentences_are_near_and_others_far(
    session: onnxruntime.InferenceSession, tokenizer: tokenizers.Tokenizer
) -> None:
    cat, kitten, market = embed(session, tokenizer, CAT, KITTEN, MARKET)
    assert cat @ kitten > 0.6
    assert cat @ market < 0.1


def test_vectors_have_norm_one_and_repeat_exactly(
    session: onnxruntime.InferenceSession, tokenizer: tokenizers.Tokenizer
) -> None:
    first = embed(session, tokenizer, CAT, KITTEN)
    assert first.shape == (2, DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(first, embed(session, tokenizer, CAT, KITTEN))


def test_padding_does_not_change_a_vector(
    session: onnxruntime.InferenceSession, tokenizer: tokenizers.Tokenizer
) -> None:
    alone = embed(session, tokenizer, CAT)
    beside_long = embed(session, tokenizer, CAT, MARKET * 10)
    np.testing.assert_allclose(alone[0], beside_long[0], atol=1e-5)


def test_longest_input_is_embedded(
    session: onnxruntime.InferenceSession, tokenizer: tokenizers.Tokenizer
) -> None:
    assert embed(session, tokenizer, "word " * 1000).shape == (1, DIMENSIONS)


def test_tokenizer_is_the_published_one(folder: Path) -> None:
    content = (folder / embedder.TOKENIZER_FILE).read_bytes()
    assert hashlib.sha256(content).hexdigest() == embedder.TOKENIZER_SHA256


def test_folder_of_another_version_is_not_current(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / embedder.MANIFEST_FILE, tmp_path)
    assert embedder.is_current(tmp_path)
    manifest = tmp_path / embedder.MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"graph_version": 1', '"graph_version": 0'))
    assert not embedder.is_current(tmp_path)
