"""From arrays on disk to what the encoder reads: splits in memory, augmented views, modalities,
streams.
"""
