"""The contract of a task, and what tasks share."""
