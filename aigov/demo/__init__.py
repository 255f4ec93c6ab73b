"""The demo: a small cast, realistic German and English traffic, and what it cost."""
