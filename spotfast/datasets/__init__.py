"""Data sets: each module fetches or makes one, and returns it as `spotfast.interactions.Interactions`."""
