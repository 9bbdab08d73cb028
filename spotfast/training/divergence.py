"""Training that diverged."""


class DivergedError(ValueError):
    """The loss of an epoch is not finite."""
