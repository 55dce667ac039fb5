"""From completions to verdicts."""
