"""Makes a Core ML program a classifier that keeps its logits beside the label and probabilities."""

from typing import Any, Final

from edgese.targets.coreml.package import Package

LABEL: Final = "label"
_PROBABILITIES: Final = "probabilities"
_NAMESPACE: Final = "edgese"


def config(labels: tuple[str, ...]) -> Any:  # noqa: ANN401  # coremltools is untyped
    """What coremltools is told of the labels: "label" and "label_probs" are two more outputs."""
    import coremltools as ct

    return ct.ClassifierConfig(
        list(labels), predicted_feature_name=LABEL, predicted_probabilities_output=_PROBABILITIES
    )


def pipeline() -> Any:  # noqa: ANN401  # the same
    """The passes of coremltools, and one that appends the softmax of the program's only output."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass
    from coremltools.converters.mil.mil.scope import ScopeInfo, ScopeSource

    @register_pass(namespace=_NAMESPACE, override=True)
    class append_probabilities(AbstractGraphPass):  # type: ignore[misc]  # noqa: N801  # untyped; named as passes are
        def apply(self, prog: Any) -> None:  # noqa: ANN401  # the same
            main = prog.functions["main"]
            (logits,) = main.outputs
            # An operator without a place in the exported program is refused at the end.
            sources = (ScopeSource.EXIR_STACK_TRACE, ScopeSource.EXIR_DEBUG_HANDLE)
            nowhere = [ScopeInfo(source=source, data=[None]) for source in sources]
            with main, Builder.scope(*nowhere):
                probabilities = Builder.softmax(x=logits, axis=-1, name=_PROBABILITIES)
            main.set_outputs([logits, probabilities])
            # coremltools 9 looks up a type for each output by its position, after it has replaced
            # the probabilities by two outputs, and fails where the list is shorter.
            main.set_output_types([*main.output_types, ct.TensorType(), ct.TensorType()])

    passes = ct.PassPipeline()
    passes.append_pass(f"{_NAMESPACE}::{append_probabilities.__name__}")
    return passes


def labels(package: Package) -> tuple[str, ...]:
    """The classes that a saved program tells, in order; none where it is no classifier."""
    for op in package.block.operations:
        if op.type == "classify":
            (given,) = op.inputs["classes"].arguments
            return tuple(
                value.immediateValue.tensor.strings.values[0]
                for value in given.value.immediateValue.list.values
            )
    return ()
