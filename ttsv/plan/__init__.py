"""What a sweep will cost, before anything is spent: its cells, shared work counted once, what is finished, tokens, hours and memory."""
