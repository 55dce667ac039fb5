"""lm-eval with a soft prompt: a model type, our tasks in its format, and its tasks in our tables."""
