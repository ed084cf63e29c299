"""Figures of a run: each file draws one from arrays; album.py chooses which."""
