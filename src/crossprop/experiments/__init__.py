"""The grid of cells: enumeration, scheduling, resumable results, selection."""
