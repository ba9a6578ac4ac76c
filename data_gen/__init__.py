"""From raw recordings to the arrays that everything else reads. Knows numpy, no torch."""

__version__ = '1.0.0'
