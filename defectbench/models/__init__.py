"""Models: their definitions, environments and certificates."""
