"""The user's own code: how it is found, how it is called, and how its exceptions are reported.

Every call of a user's function stands in `users_code`, or in `users_setup` where it may change settings of the process.
What comes out of it is a `UserCodeError`, so that only faults of this package are reported as such.
"""

from gossipdistill.user_code.blame import called, came_from, frame_of_user, told, users_code, users_setup, where
from gossipdistill.user_code.finding import find_user_object
from gossipdistill.user_code.text import text_of
from gossipdistill.user_code.torch_settings import TorchSettings

__all__ = [
    "TorchSettings",
    "called",
    "came_from",
    "find_user_object",
    "frame_of_user",
    "text_of",
    "told",
    "users_code",
    "users_setup",
    "where",
]
