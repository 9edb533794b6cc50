"""Answers from published weights, by us and by those who wrote them."""
