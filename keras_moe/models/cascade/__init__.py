"""Several models as one: the small one first, the large where it must."""
