"""Screening: from elements to ranked compositions."""
