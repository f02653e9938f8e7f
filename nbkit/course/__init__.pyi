from . import exercises
from .machine import readiness
from .profiles import profile

__all__ = ["exercises", "profile", "readiness"]
