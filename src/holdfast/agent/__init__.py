"""The bounded agent loop, its strict answers, and the instructions that ask for calibrated confidence."""

from .agent import Agent, Chat
from .conclusions import Conclusion, conclusions

__all__ = ["Agent", "Chat", "Conclusion", "conclusions"]
