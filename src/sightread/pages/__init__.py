"""One page about many runs: what was run, scores, learning curves, voken strips, what was skipped and what diverged."""
