"""Commands that look into prepared data (inspect_data), encoders (robustness), features (tsne,
explorer, neighbours), results.
"""
