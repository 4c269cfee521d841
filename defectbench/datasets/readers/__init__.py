"""One reader per public source."""
