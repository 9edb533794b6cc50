"""Whether a signature reads the examples that it is sent."""

from collections.abc import Iterable

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2

_PARSING = {
    "DecodeProtoV2",
    "ParseExample",
    "ParseExampleV2",
    "ParseSequenceExample",
    "ParseSequenceExampleV2",
    "ParseSingleExample",
    "ParseSingleSequenceExample",
}


def check_example_signature(
    meta_graph: meta_graph_pb2.MetaGraphDef, name: str
) -> None:
    """Raises `ValueError` if a signature would take examples for texts.

    TFX sends serialized examples to any signature of one string input. One that
    answers texts answers them, too, whatever is in them: a model would be
    blessed that nobody has asked a real question.

    Args:
        meta_graph: of a SavedModel.
        name: of a signature in it.
    """
    signature = meta_graph.signature_def[name]
    if signature.method_name != tf.saved_model.PREDICT_METHOD_NAME:
        # Others take examples by themselves.
        return
    parsing = [
        other
        for other, given in sorted(meta_graph.signature_def.items())
        if _parses(meta_graph.graph_def, given)
    ]
    if name not in parsing:
        raise ValueError(
            "`signature_name` must be a signature that parses serialized "
            f"examples; of those there are {parsing}. Received: "
            f"signature_name={name!r}, which would take an example for a text."
        )


def _parses(
    graph: graph_pb2.GraphDef, signature: meta_graph_pb2.SignatureDef
) -> bool:
    outputs = {info.name.split(":")[0] for info in signature.outputs.values()}
    return not _reachable(graph, outputs).isdisjoint(_PARSING)


def _reachable(graph: graph_pb2.GraphDef, outputs: set[str]) -> set[str]:
    """Returns the operations that lead to nodes, within functions as well."""
    nodes = {node.name: node for node in graph.node}
    library = {f.signature.name: f for f in graph.library.function}
    waiting, seen = list(outputs), set()
    used: list[node_def_pb2.NodeDef] = []
    while waiting:
        name = waiting.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        used.append(nodes[name])
        waiting += [i.lstrip("^").split(":")[0] for i in nodes[name].input]
    called, found = list(_called(used)), {node.op for node in used}
    entered = set()
    while called:
        function = called.pop()
        if function in entered or function not in library:
            continue
        entered.add(function)
        body = library[function].node_def
        found |= {node.op for node in body}
        called += _called(body)
    return found


def _called(nodes: Iterable[node_def_pb2.NodeDef]) -> list[str]:
    return [
        function.name
        for node in nodes
        for value in node.attr.values()
        for function in (value.func, *value.list.func)
    ]
