"""Data modules, strict readers and samplers."""
