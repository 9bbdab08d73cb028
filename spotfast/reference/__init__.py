"""Every operation in plain PyTorch or numpy: slow, short, and what all other engines are tested against."""
