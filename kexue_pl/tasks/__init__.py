"""The LightningModules, one task a file."""
