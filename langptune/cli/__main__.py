"""`python -m langptune.cli`."""

from langptune.cli import main

main()
