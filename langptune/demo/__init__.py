"""The story of the system, told in a terminal on the sample world with real services: `langptune demo`.

`plan` holds all sizes, `story` the order of events, `training` and `showing` the parts that have something to measure or to show.
"""

from langptune.demo.story import tell

__all__ = ["tell"]
