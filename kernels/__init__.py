"""Triton kernels and their launchers, one operation per file: `spotfast.ops.<op>` calls `spotfast.kernels.<op>`.

Every file begins with device functions. They take blocks and scalars and know nothing of the grid, so that fused
kernels can call them as well. The kernels come next, the launchers last; launchers check nothing, `spotfast.ops` does.

Every file imports `triton` and `tl` from `language.py`, so that importing it does not need triton, and starts kernels
by `launch`, which knows those that were compiled ahead of time: each file's SPECIALISATIONS. A file's OTHERS
do not ship, and are compiled by the tests. With `TRITON_INTERPRET=1`, set before the import, kernels run on the CPU.

Annotations are evaluated here (no `from __future__ import annotations`): triton reads them to type the scalars of a
kernel, which it would otherwise type by their values and compile anew.
"""
