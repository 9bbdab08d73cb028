"""spotfast: recommender models in PyTorch. A drop-in, much faster Spotlight."""

from spotfast._version import __version__

__all__ = ["__version__"]
