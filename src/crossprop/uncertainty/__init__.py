"""Conformal intervals, applicability domain, and the evidence behind both."""
