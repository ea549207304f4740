"""One file a step, `YYYYMMDD_HHMM_slug.py`; the time is its name among the revisions."""
