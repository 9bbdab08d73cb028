"""Categories of warnings."""


class PerformanceWarning(UserWarning):
    """Results are as they should be, but they take far longer than they could."""
