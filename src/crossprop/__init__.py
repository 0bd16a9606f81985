"""crossprop: cross-property transfer learning for small materials data sets."""

__version__ = "0.1.0"
