"""What a trained checkpoint is good for: scores, embeddings, neighbours.

Nothing heavy is imported here: ``kexue_pl.predict.pairs``, ``texts`` and ``restore`` hold the parts.
"""
