"""Matrix factorization models for implicit and explicit feedback."""
