"""Commands that look into prepared data (inspect_data), encoders (complexity) and their features (tsne)."""
