"""Engines that run the language model, behind one port (`port.py`)."""
