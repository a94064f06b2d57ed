"""No deadline per example: a busy machine is no bug, and pytest bounds each test."""

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
