"""Search of settings with Optuna: the space, the study and its command line."""
