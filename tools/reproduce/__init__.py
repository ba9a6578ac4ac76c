"""`python -m tools.reproduce`: the paper's tables, with the published accuracies beside ours."""
