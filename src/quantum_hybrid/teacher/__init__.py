"""Who writes the text: any OpenAI-compatible server, or the embedded one; answers are kept."""

from quantum_hybrid.teacher.cache import AnswerCache
from quantum_hybrid.teacher.choice import ChosenTeacher, choose_teacher, compute_threads
from quantum_hybrid.teacher.client import TeacherClient, TeacherServer
from quantum_hybrid.teacher.embedded import EmbeddedTeacher
from quantum_hybrid.teacher.stream import GroupStream

__all__ = [
    "AnswerCache",
    "ChosenTeacher",
    "EmbeddedTeacher",
    "GroupStream",
    "TeacherClient",
    "TeacherServer",
    "choose_teacher",
    "compute_threads",
]
