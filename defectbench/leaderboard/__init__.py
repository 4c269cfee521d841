"""Published results: entries, scores, tables, comparison."""
