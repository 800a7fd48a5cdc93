"""Scores of students, teacher and bicubic interpolation on test sets: ``swinlet evaluate``."""
