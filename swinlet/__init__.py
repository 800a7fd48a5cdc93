"""swinlet."""
