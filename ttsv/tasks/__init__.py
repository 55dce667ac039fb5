"""Tasks: a config of field names or generator settings in, a list of problems with gold answers out."""

from ttsv.tasks.base import Loaded, Task, problems_sha256
from ttsv.tasks.choices import MultipleChoice
from ttsv.tasks.fields import Fields
from ttsv.tasks.file_task import FileTask
from ttsv.tasks.gym_task import GymTask
from ttsv.tasks.hub import HubSource
from ttsv.tasks.selection import halves, subset

__all__ = [
    "Fields",
    "FileTask",
    "GymTask",
    "HubSource",
    "Loaded",
    "MultipleChoice",
    "Task",
    "halves",
    "problems_sha256",
    "subset",
]
