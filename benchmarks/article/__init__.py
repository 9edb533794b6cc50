"""Every smaller system of the article beside what it competes with."""
