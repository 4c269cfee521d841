"""Structures: comparison of relaxed defects, and configuration coordinates between them."""
