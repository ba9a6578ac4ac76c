"""What the three scripts share, and commands to look at results."""
