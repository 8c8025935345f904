"""Fast forms of plain functions, each equal to its plain form by a test.

`modeling` calls them by plain names; which form runs is decided in choice.py, for all of them.
"""
