"""A Chromium that stays open between actions; see README.md beside this file."""

from warmd.apps.browser.app import Browser

__all__ = ["Browser"]
