"""Property tests look at the same examples every time, so that a red run can be repeated.

``pytest --hypothesis-profile=explore`` looks at new ones.
"""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=500, deadline=None)
settings.load_profile("repeatable")
