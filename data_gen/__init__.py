"""From raw recordings to the arrays that everything else reads. Knows numpy, no torch."""
