"""Results kept on disk by content, so that an interrupted run resumes where it stopped.

files.py    tables on disk, whole or not at all
hashes.py   the hash of all that decides a result
"""
