"""Drawn portraits: persons, rooms, and the tools to paint them."""
