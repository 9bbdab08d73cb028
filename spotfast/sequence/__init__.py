"""Models of the order in which users interact with items."""
