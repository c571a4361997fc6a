"""Prepared data: raw review files in, items and sessions out (Section 7 of the paper's pipeline), and how both are stored."""
