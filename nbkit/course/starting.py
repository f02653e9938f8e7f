"""What the commands share."""


class CannotStart(Exception):
    """A command cannot do what was asked of it here; the message says why, and what to do."""
