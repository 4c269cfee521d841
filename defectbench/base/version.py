"""The version of defectbench: below all that writes it into results."""

VERSION = "0.1.0"
