"""The language, written down as ``.lark`` files; meaning lives in ``frontend/``."""
