"""What `build.py` is made of: course.py (assemble), run.py, checks.py, readme.py."""
