"""Ports with a fault each, which parity diff must name: make ports."""
