"""The network of all-MiniLM-L6-v2 as an ONNX graph, built from its weights.

Written out here because the alternative, exporting it from torch, costs a download of gigabytes.
The structure is BERT's (Devlin et al., 2019, https://arxiv.org/abs/1810.04805) with mean pooling
(Reimers and Gurevych, 2019, https://arxiv.org/abs/1908.10084).
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LAYERS = 6
HEADS = 12
DIMENSIONS = 384
MAX_TOKENS = 256
OPSET = 20
_LAYER_NORM_EPSILON = 1e-12
# Added to the scores of padding before softmax: large enough to give it weight zero in float32.
_MASKED = -1e9

Weights = Mapping[str, NDArray[np.float32]]
_Attribute = int | float | list[int]


def build(weights: Weights) -> onnx.ModelProto:
    """Return the checked model: from `input_ids` and `attention_mask` to `embedding`.

    The inputs are int64, batch x tokens; the embedding is float32, batch x 384, of norm one.
    """
    graph = _Graph(weights)
    mask = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    hidden = _embeddings(graph)
    padding = _padding_bias(graph, mask)
    for layer in range(LAYERS):
        hidden = _layer(graph, f"encoder.layer.{layer}", hidden, padding)
    graph.add("Identity", _mean_of_norm_one(graph, hidden, mask), output="embedding")
    return graph.model()


class _Graph:
    """Collects nodes and constants; each method returns the name of a tensor."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: _Attribute) -> str:
        output = output or f"{operator}.{len(self._nodes)}"
        node = helper.make_node(operator, list(inputs), [output])
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self._nodes.append(node)
        return output

    def constant(self, value: object, dtype: type[np.generic] = np.int64) -> str:
        return self._keep(f"constant.{len(self._constants)}", np.asarray(value, dtype=dtype))

    def weight(self, name: str) -> str:
        return self._keep(name, self._weights[name])

    def linear(self, name: str, x: str) -> str:
        # torch keeps a linear layer as (out, in).
        matrix = self._keep(f"{name}.weight", self._weights[f"{name}.weight"].T)
        return self.add("Add", self.add("MatMul", x, matrix), self.weight(f"{name}.bias"))

    def layer_norm(self, name: str, x: str) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=_LAYER_NORM_EPSILON)

    def model(self) -> onnx.ModelProto:
        tokens = ["batch", "tokens"]
        graph = helper.make_graph(
            self._nodes,
            "all-MiniLM-L6-v2",
            [
                helper.make_tensor_value_info("input_ids", TensorProto.INT64, tokens),
                helper.make_tensor_value_info("attention_mask", TensorProto.INT64, tokens),
            ],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSIONS])],
            list(self._constants.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model_gen_version(graph, opset_imports=[opset])
        onnx.checker.check_model(model, full_check=True)
        return model

    def _keep(self, name: str, value: NDArray[np.generic]) -> str:
        tensor = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        self._constants[name] = tensor
        return name


def _embeddings(graph: _Graph) -> str:
    words = graph.add("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
    count = graph.add("Squeeze", graph.add("Shape", "input_ids", start=1, end=2))
    places = graph.add("Range", graph.constant(0), count, graph.constant(1))
    positions = graph.add("Gather", graph.weight("embeddings.position_embeddings.weight"), places)
    # Every token is of the first segment: one row, not a third input.
    segments = graph.weight("embeddings.token_type_embeddings.weight")
    segment = graph.add("Gather", segments, graph.constant(0))
    total = graph.add("Add", graph.add("Add", words, positions), segment)
    return graph.layer_norm("embeddings.LayerNorm", total)


def _padding_bias(graph: _Graph, mask: str) -> str:
    inverse = graph.add("Sub", graph.constant(1, np.float32), mask)
    bias = graph.add("Mul", inverse, graph.constant(_MASKED, np.float32))
    return graph.add("Unsqueeze", bias, graph.constant([1, 2]))


def _layer(graph: _Graph, name: str, x: str, padding: str) -> str:
    attended = _attention(graph, f"{name}.attention", x, padding)
    x = graph.layer_norm(f"{name}.attention.output.LayerNorm", graph.add("Add", attended, x))
    wide = graph.add("Gelu", graph.linear(f"{name}.intermediate.dense", x))
    narrow = graph.linear(f"{name}.output.dense", wide)
    return graph.layer_norm(f"{name}.output.LayerNorm", graph.add("Add", narrow, x))


def _attention(graph: _Graph, name: str, x: str, padding: str) -> str:
    query = _heads(graph, f"{name}.self.query", x, [0, 2, 1, 3])
    key = _heads(graph, f"{name}.self.key", x, [0, 2, 3, 1])
    value = _heads(graph, f"{name}.self.value", x, [0, 2, 1, 3])
    scale = graph.constant((DIMENSIONS / HEADS) ** -0.5, np.float32)
    scores = graph.add("Mul", graph.add("MatMul", query, key), scale)
    shares = graph.add("Softmax", graph.add("Add", scores, padding), axis=-1)
    context = graph.add("Transpose", graph.add("MatMul", shares, value), perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", context, graph.constant([0, 0, DIMENSIONS]))
    return graph.linear(f"{name}.output.dense", joined)


def _heads(graph: _Graph, name: str, x: str, order: list[int]) -> str:
    shape = graph.constant([0, 0, HEADS, DIMENSIONS // HEADS])
    return graph.add("Transpose", graph.add("Reshape", graph.linear(name, x), shape), perm=order)


def _mean_of_norm_one(graph: _Graph, hidden: str, mask: str) -> str:
    # The norm removes the mean's divisor, so the sum over real tokens is enough.
    weight = graph.add("Unsqueeze", mask, graph.constant([2]))
    masked = graph.add("Mul", hidden, weight)
    total = graph.add("ReduceSum", masked, graph.constant([1]), keepdims=0)
    return graph.add("LpNormalization", total, axis=1, p=2)
