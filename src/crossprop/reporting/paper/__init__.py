"""Our results beside those of Gupta et al. 2021: Tables 2 to 5, tallies and sign tests."""
