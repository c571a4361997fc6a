"""The paper's experiments: every system behind one interface, scored by one piece of code, results kept by what they came from.

`systems` fit and score; `scoring` turns scores into exact ranks and metrics; `runs` keeps one result per content hash; `runner`
does what is missing, in parallel; `tables` are the paper's tables and figures over those results; `command` is the command line.
Services do not import this package. How to read the numbers: README.md beside this file.
"""
