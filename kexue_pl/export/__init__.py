"""Trained models for other libraries.

Nothing heavy is imported here: ``kexue_pl.export.sentence_transformers`` writes the folder.
"""
