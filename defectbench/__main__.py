"""``python -m defectbench``."""

from defectbench.cli import main

main()
