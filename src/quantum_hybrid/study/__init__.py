"""The study: does a circuit predict the next token better than what could stand in its place?"""
