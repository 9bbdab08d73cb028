"""Charts for terminals."""


def draw(values, width=40):
    """Lines of a bar chart."""
    longest = max(values.values())
    return [f"{name:>12} {'#' * max(1, round(width * value / longest))} {value:.3f}" for name, value in values.items()]
