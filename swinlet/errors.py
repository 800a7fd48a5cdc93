"""What can go wrong in a user's hands: every message says what, where and what to do.

SwinletError
├── OptionError       an option file, an override, or options that contradict each other
├── DataError         images and folders
│   └── MachineError  the machine cannot read or write them now
├── CheckpointError   weight files and saved runs
│   └── HubError      models on the Hugging Face hub
│       └── UnreachableError  it cannot be reached, or not now
├── TrainingError     a run that cannot go on
└── SharedError       one that another process of the run tells of
"""


class SwinletError(Exception):
    """Base of all errors meant for users. The command line shows the message without a traceback."""


class OptionError(SwinletError):
    """Raised for a bad option file; names every faulty key by its path, e.g. ``train.G_optimizer_lr``."""


class DataError(SwinletError):
    """Raised for images that are missing, unreadable, unpaired, too small or of the wrong size."""


class MachineError(DataError):
    """Raised where the machine, not an image, is at fault: a full disk, a loader's process that was ended."""


class CheckpointError(SwinletError):
    """Raised for weight files that are missing, unreadable, or belong to another network."""


class HubError(CheckpointError):
    """Raised for models on the hub that do not exist, that may not be read or written, or that arrive damaged."""


class UnreachableError(HubError):
    """Raised where the hub cannot be reached, or cannot serve what is asked for now."""


class TrainingError(SwinletError):
    """Raised when a run cannot go on, e.g. because its loss is not a number any more."""


class SharedError(SwinletError):
    """Raised in a process of a run for an error that another one tells the user of: end without a word."""
