"""Kernels that were compiled ahead of time, and the choice between them and Triton's compiler.

`compiling` and `build` make them (Triton is needed there only), `manifest` describes them, `shipped` reads those of
this installation, `choice` picks what a device runs, `functions` loads and launches it through `driver`, by ctypes.
"""
