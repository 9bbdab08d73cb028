"""The fit loop that all models share."""
