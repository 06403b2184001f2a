"""QuizNet: the encoder, the quizzer, its heads and their weights."""

from .quiznet import QuizNet

__all__ = ["QuizNet"]
