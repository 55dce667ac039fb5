"""The control suite's page: how much of a gain is there before the first update, what updates add, and what the responses are made of."""

from ttsv.controls.page import write_page

__all__ = ["write_page"]
