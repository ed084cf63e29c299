"""Deliberate mistakes, each in one wing, that the ladder must catch and name."""
