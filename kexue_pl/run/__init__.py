"""One run in the order it happens: config, check, build, launch, worker, resume, record."""
