"""Executes saved ML programs without Core ML: the file's own operators, by kernels of PyTorch.

It proves what the file says, and nothing about where Core ML would place an operator, nor how the
Neural Engine orders its sums. Where each operator's meaning stands is told beside its kernel;
"reference" there is https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html.
"""
