"""spotfast: recommender models in PyTorch. A drop-in, much faster Spotlight."""

from spotfast._version import __version__
from spotfast.compat import install

__all__ = ["__version__", "install"]
