"""Real processes and real faults, for the tests and for the fault report."""
