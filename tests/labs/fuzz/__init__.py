"""Bytes that nobody meant: every reader of ours, given files with mistakes made on purpose."""
