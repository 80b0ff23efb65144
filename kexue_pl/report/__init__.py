"""Tables and plots of a run and of a multirun."""
