"""Chromium's virtual authenticators: what a phone or laptop keeps passkeys in."""

from typing import Any

from playwright.async_api import CDPSession, Page


async def add_authenticator(page: Page) -> tuple[CDPSession, str]:
    """A phone's or laptop's own authenticator, whose owner always agrees."""
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable")
    options: dict[str, Any] = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    added = await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return session, added["authenticatorId"]
