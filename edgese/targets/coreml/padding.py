"""Makes padding a part of the convolutions behind it, as a pass of coremltools.

PyTorch's convolution pads both sides alike, so that TensorFlow's uneven padding is an operator of
its own; Core ML's takes four amounts. In between, the padding would keep a convolution from the
pair that it is fused with.
"""

from typing import Any, Final

_NAMESPACE: Final = "edgese"


def append_to(passes: Any) -> Any:  # noqa: ANN401  # coremltools is untyped
    """Appends the pass to a pipeline, and returns the pipeline."""
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass

    @register_pass(namespace=_NAMESPACE, override=True)
    class merge_padding(AbstractGraphPass):  # type: ignore[misc]  # noqa: N801  # untyped; named as passes are
        def apply(self, prog: Any) -> None:  # noqa: ANN401  # the same
            main = prog.functions["main"]
            with main:
                for pad in [op for op in main.operations if op.op_type == "pad"]:
                    readers = list(pad.outputs[0].child_ops)
                    if _is_of_zeros(pad) and all(_takes(reader, pad) for reader in readers):
                        for conv in readers:
                            _merge(main, pad, conv)
                        main.remove_ops([pad])

    passes.append_pass(f"{_NAMESPACE}::{merge_padding.__name__}")
    return passes


def _is_of_zeros(pad: Any) -> bool:  # noqa: ANN401  # the same
    """Whether it adds zeros at the rims of pictures alone."""
    return bool(
        pad.mode.val == "constant"
        and pad.constant_val.val == 0
        and len(pad.pad.val) >= 4
        and not any(pad.pad.val[:-4])
    )


def _takes(op: Any, pad: Any) -> bool:  # noqa: ANN401  # the same
    """Whether an operator is a convolution over what is padded, and does not pad itself."""
    if op.op_type != "conv" or op.x is not pad.outputs[0]:
        return False
    kind = op.pad_type.val
    return kind == "valid" or (kind == "custom" and not any(op.pad.val))


def _merge(block: Any, pad: Any, conv: Any) -> None:  # noqa: ANN401  # the same
    from coremltools.converters.mil.mil import Builder

    given = {name: value for name, value in conv.inputs.items() if value is not None}
    given |= {"x": pad.x, "pad_type": "custom", "pad": pad.pad.val[-4:]}
    merged = Builder.conv(**given, name=conv.name, before_op=conv)
    block.replace_uses_of_var_after_op(anchor_op=conv, old_var=conv.outputs[0], new_var=merged)
    block.remove_ops([conv])
