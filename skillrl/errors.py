"""Exceptions for mistakes that a user can mend; their message tells how."""


class SkillrlError(Exception):
    """Base of every error that skillrl raises on purpose.

    The command line prints its message without a traceback.
    """


class InvalidValueError(SkillrlError, ValueError):
    """An argument, a space or an observation that cannot be used as it is."""


class UnsupportedOperationError(InvalidValueError):
    """A network whose symmetries are unknown because of one of its operations."""


class DamagedFileError(SkillrlError, OSError):
    """A file that is missing, incomplete, or not what its name says."""


class DivergedError(SkillrlError, ArithmeticError):
    """A training whose numbers are no longer finite."""


class RunStopped(SkillrlError):
    """A run that was asked to stop; it can be resumed.

    Args:
        message: for people.
        trained: whether it was training, and did not only prepare for it.
    """

    def __init__(self, message: str, *, trained: bool = True) -> None:
        super().__init__(message)
        self.trained = trained


class NotEquivalentError(SkillrlError, ArithmeticError):
    """A transformed network that does not compute what the network did."""
