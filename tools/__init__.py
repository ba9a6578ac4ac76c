"""What the three scripts share. The folders hold evaluations, analyses and the paper's tables."""
