"""Commands that look into prepared data (inspect_data), encoders (complexity, robustness), features
(tsne), results.
"""
