"""Notices that a series or study is complete: commands, webhooks and instance availability."""
