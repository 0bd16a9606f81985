"""Tables, statistics, figures and pages of a finished study; reads `results/`, writes `summary/`."""
