"""Where a blessed model goes, and which one was blessed before."""
