"""Measurements of speed and memory; `make bench`, docs/performance.md."""
