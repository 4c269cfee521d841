"""The ground floor: errors, states, files, downloads, hardware. Imports nothing of the project."""
