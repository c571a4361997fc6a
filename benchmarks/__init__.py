"""The scoreboard: every figure of the README and the docs has its command here; README.md in this folder lists them."""
