"""The one error the demo raises for things a person can mend."""


class DemoError(Exception):
    """What went wrong, where, and what to do about it."""
