"""The teacher: an OpenAI-compatible server or the embedded model, with a cache of its answers."""

from quantum_hybrid.teacher.account import Account
from quantum_hybrid.teacher.cache import AnswerCache, answers_path
from quantum_hybrid.teacher.choice import ChosenTeacher, choose_teacher, compute_threads
from quantum_hybrid.teacher.client import TeacherClient
from quantum_hybrid.teacher.embedded import EmbeddedTeacher
from quantum_hybrid.teacher.prompt_writer import PromptWriter
from quantum_hybrid.teacher.request import AnswerRequest
from quantum_hybrid.teacher.server import Prices, TeacherServer
from quantum_hybrid.teacher.stream import GroupStream

__all__ = [
    "Account",
    "AnswerCache",
    "AnswerRequest",
    "ChosenTeacher",
    "EmbeddedTeacher",
    "GroupStream",
    "Prices",
    "PromptWriter",
    "TeacherClient",
    "TeacherServer",
    "answers_path",
    "choose_teacher",
    "compute_threads",
]
