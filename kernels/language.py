"""`triton` and `tl`, as every kernel file imports them: from here, so that compiled kernels need no triton.

Without triton, the two are what a kernel file asks for as it is imported and by its launchers: `jit` keeps the Python
function, by which `launch` finds what was compiled ahead of time; constants keep their values.
"""

try:
    import triton
    import triton.language as tl
except ImportError:
    from types import SimpleNamespace
    from typing import Any

    class _Kernel:
        """A function that only a compiler could run.

        Attributes:
            fn: the Python function.
        """

        def __init__(self, fn: Any) -> None:
            self.fn = fn
            self.__name__ = fn.__name__

    class _Constant:
        def __init__(self, value: Any) -> None:
            self.value = value

    class _Language:
        constexpr = _Constant

        def __getattr__(self, name: str) -> str:
            return name  # a type, in an annotation

    def _jit(fn: Any = None, **options: Any) -> Any:
        return _Kernel if fn is None else _Kernel(fn)

    def _cdiv(x: int, y: int) -> int:
        return -(-x // y)

    def _next_power_of_2(n: int) -> int:
        return 1 << max(0, n - 1).bit_length()

    triton = SimpleNamespace(jit=_jit, cdiv=_cdiv, next_power_of_2=_next_power_of_2)
    tl = _Language()

__all__ = ["tl", "triton"]
