"""The network and its objective: torch alone, no files, no flags, no process group."""
