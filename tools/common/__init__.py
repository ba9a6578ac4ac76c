"""What every room may use: command-line helpers, files, locks. No torch."""
