"""Faults that real machines have, made on purpose: kills, full disks, altered files."""
