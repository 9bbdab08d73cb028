"""spotfast: recommender models in PyTorch. A drop-in, much faster Spotlight."""

from spotfast._version import __version__
from spotfast.compat import install
from spotfast.threads import get_num_threads, set_num_threads
from spotfast.warnings import PerformanceWarning

__all__ = ["PerformanceWarning", "__version__", "get_num_threads", "install", "set_num_threads"]
