"""Traces: what a pass computes, and the first tensor where two differ."""
